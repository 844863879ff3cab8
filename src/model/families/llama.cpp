// Llama (Touvron et al. 2023; the shapes of Llama 2 and 3): RMS norm, rotary positions,
// grouped-query attention, SwiGLU.
#include <nlohmann/json.hpp>

#include "model/families/llama_like.h"
#include "model/family.h"

namespace longspan::model {

namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  reader.require("attention_bias", {false});
  reader.require("mlp_bias", {false});
  reader.ignore({"pretraining_tp"});  // how a product was once cut, not what it is
  llama_like::read(reader, config, {.max_position_embeddings = 2048, .rms_norm_eps = 1e-6});
}

void write(const ModelConfig& config, nlohmann::ordered_json& out) {
  llama_like::write(config, out);
  out["attention_bias"] = false;
  out["mlp_bias"] = false;
}

}  // namespace

Family llama() {
  return {.model_type = "llama",
          .architecture = "LlamaForCausalLM",
          .description = "RMSNorm, rotary positions, grouped-query attention, SwiGLU",
          .numbers = {{"rms_norm_eps", 1e-5}, {"rope_theta", 10000.0}},
          .max_position_embeddings = 2048,
          .compose = llama_like::compose,
          .read = read,
          .write = write};
}

}  // namespace longspan::model
