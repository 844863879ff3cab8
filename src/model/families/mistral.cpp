// Mistral (Jiang et al. 2023): Llama, of which the first version had a window.
#include <nlohmann/json.hpp>

#include "model/families/llama_like.h"
#include "model/family.h"

namespace longspan::model {

namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  llama_like::read(reader, config, {.max_position_embeddings = 131072, .rms_norm_eps = 1e-6});
  llama_like::read_window(reader, config, 4096);
}

void write(const ModelConfig& config, nlohmann::ordered_json& out) {
  llama_like::write(config, out);
  llama_like::write_window(config, out);
}

}  // namespace

Family mistral() {
  return {.model_type = "mistral",
          .architecture = "MistralForCausalLM",
          .description = "Llama, with a sliding window if wanted",
          .numbers = {{"rms_norm_eps", 1e-5}, {"rope_theta", 1000000.0}},
          .max_position_embeddings = 32768,
          .has_window = true,
          .compose = llama_like::compose,
          .read = read,
          .write = write};
}

}  // namespace longspan::model
