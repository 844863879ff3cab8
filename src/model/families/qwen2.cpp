// Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with biases of queries, keys and values.
#include <nlohmann/json.hpp>

#include "model/families/llama_like.h"
#include "model/family.h"

namespace longspan::model {

namespace {

Composition compose(const ModelConfig& config) {
  Composition composition = llama_like::compose(config);
  composition.attention.qkv_options.has_bias = true;
  return composition;
}

void read(ConfigReader& reader, ModelConfig& config) {
  reader.require("use_mrope", {false});
  llama_like::read(reader, config, {.max_position_embeddings = 32768, .rms_norm_eps = 1e-6});
  llama_like::read_optional_window(reader, config);
}

void write(const ModelConfig& config, nlohmann::ordered_json& out) {
  llama_like::write(config, out);
  llama_like::write_optional_window(config, out);
}

}  // namespace

Family qwen2() {
  return {.model_type = "qwen2",
          .architecture = "Qwen2ForCausalLM",
          .description = "Llama with biases of queries, keys and values",
          .numbers = {{"rms_norm_eps", 1e-6}, {"rope_theta", 1000000.0}},
          .max_position_embeddings = 32768,
          .has_window = true,
          .compose = compose,
          .read = read,
          .write = write};
}

}  // namespace longspan::model
