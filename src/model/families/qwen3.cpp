// Qwen3 (Yang et al. 2025): Llama with a norm of each head's queries and keys.
#include <nlohmann/json.hpp>

#include "model/families/llama_like.h"
#include "model/family.h"

namespace longspan::model {

namespace {

constexpr std::int64_t kHeadDim = 128;

Composition compose(const ModelConfig& config) {
  Composition composition = llama_like::compose(config);
  composition.attention.query_norm = "self_attn.q_norm";
  composition.attention.key_norm = "self_attn.k_norm";
  composition.attention.norm_options.epsilon = static_cast<float>(config.rms_norm_eps);
  return composition;
}

void read(ConfigReader& reader, ModelConfig& config) {
  reader.require("attention_bias", {false});
  llama_like::read(reader, config, {.max_position_embeddings = 32768, .rms_norm_eps = 1e-6});
  llama_like::read_optional_window(reader, config);
}

void write(const ModelConfig& config, nlohmann::ordered_json& out) {
  llama_like::write(config, out);
  llama_like::write_optional_window(config, out);
  out["attention_bias"] = false;
}

}  // namespace

Family qwen3() {
  return {.model_type = "qwen3",
          .architecture = "Qwen3ForCausalLM",
          .description = "Llama with a norm of each head's queries and keys",
          .numbers = {{"rms_norm_eps", 1e-6}, {"rope_theta", 1000000.0}},
          .max_position_embeddings = 40960,
          .head_dim = kHeadDim,
          .has_window = true,
          .compose = compose,
          .read = read,
          .write = write};
}

}  // namespace longspan::model
