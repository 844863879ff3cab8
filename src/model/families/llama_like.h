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

/// The parts of `read` and `write` for families whose activation has another name, or whose layers
/// do not all have the same rotary positions.
void read_sizes(ConfigReader& reader, ModelConfig& config, const Defaults& defaults);
void write_sizes(const ModelConfig& config, nlohmann::ordered_json& out);
/// rope_theta, and rope_scaling or rope_parameters: transformers 4 and 5 have them so.
void read_rope(ConfigReader& reader, ModelConfig& config, double theta_otherwise);
/// One set of rotary parameters: the scaling, which is returned, and the base if it is there.
RopeScaling read_scaling(ConfigReader rope, double& theta, std::int64_t max_position_embeddings);
void write_scaling(const RopeScaling& scaling, nlohmann::ordered_json& out);

/// Windows as Qwen has them: only where use_sliding_window says so, and not in the first
/// max_window_layers.
void read_optional_window(ConfigReader& reader, ModelConfig& config);
void write_optional_window(const ModelConfig& config, nlohmann::ordered_json& out);
/// Windows as Mistral has them, in all layers unless null; where the key is not there, `otherwise`.
void read_window(ConfigReader& reader, ModelConfig& config, std::int64_t otherwise);
void write_window(const ModelConfig& config, nlohmann::ordered_json& out);

}  // namespace longspan::model::llama_like
