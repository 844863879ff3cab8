#pragma once

#include <nlohmann/json_fwd.hpp>

#include "longspan/model/model_config.h"
#include "model/composition.h"
#include "model/config_reader.h"

// What Llama and the families made after it have in common: parts of a Family, which each of them
// changes or adds to.
namespace longspan::model::llama_like {

Composition compose(const ModelConfig& config);

/// transformers' defaults of a family's config class, where they differ.
struct Defaults {
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0.0;
};

/// Sizes, norm, rotary positions and activation; each family says what else it knows.
void read(ConfigReader& reader, ModelConfig& config, const Defaults& defaults);
void write(const ModelConfig& config, nlohmann::ordered_json& out);

}  // namespace longspan::model::llama_like
