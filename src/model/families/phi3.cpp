// Phi-3 (Abdin et al. 2024): Llama with queries, keys and values in one matrix, gate and up in
// another, and a window.
#include <nlohmann/json.hpp>

#include "model/families/llama_like.h"
#include "model/family.h"

namespace longspan::model {

namespace {

Composition compose(const ModelConfig& config) {
  Composition composition = llama_like::compose(config);
  composition.attention.qkv = {"self_attn.qkv_proj"};
  composition.mlp.up = {"mlp.gate_up_proj"};
  return composition;
}

void read(ConfigReader& reader, ModelConfig& config) {
  // Dropout is of training alone, and we train without it. The length is of LongRoPE, which is
  // refused.
  reader.ignore({"resid_pdrop", "embd_pdrop", "original_max_position_embeddings"});
  reader.require("attention_bias", {false});
  llama_like::read(reader, config, {.max_position_embeddings = 4096, .rms_norm_eps = 1e-5});
  if (config.rope_scaling.rope_type != "default") {
    reader.fail("rope_scaling", "has the rope_type \"" + config.rope_scaling.rope_type +
                                    "\", which transformers does not know for this family");
  }
  llama_like::read_window(reader, config, 0);
}

void write(const ModelConfig& config, nlohmann::ordered_json& out) {
  llama_like::write(config, out);
  llama_like::write_window(config, out);
  out["original_max_position_embeddings"] = config.max_position_embeddings;
  // transformers would drop what these say.
  out["pad_token_id"] = nullptr;  // its own might be beyond the vocabulary
  out["resid_pdrop"] = 0.0;
  out["embd_pdrop"] = 0.0;
}

}  // namespace

Family phi3() {
  return {.model_type = "phi3",
          .architecture = "Phi3ForCausalLM",
          .description = "Llama with joined projections, with a sliding window if wanted",
          .numbers = {{"rms_norm_eps", 1e-5}, {"rope_theta", 10000.0}},
          .max_position_embeddings = 4096,
          .has_window = true,
          .compose = compose,
          .read = read,
          .write = write};
}

}  // namespace longspan::model
