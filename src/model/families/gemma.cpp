// Gemma 2 (Riviere et al. 2024) and the text models of Gemma 3 (Kamath et al. 2025): RMS norms of
// 1 + weight before and behind attention and MLP, GeGLU, a scaled embedding that is the head, and
// layers with a window among others without. Gemma 2 caps scores and logits; Gemma 3 norms queries
// and keys, and turns them by other frequencies where there is a window.
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/families/llama_like.h"
#include "model/family.h"

namespace longspan::model {

namespace {

using nlohmann::ordered_json;

constexpr std::int64_t kHeadDim = 256;

Composition compose_both(const ModelConfig& config) {
  Composition composition = llama_like::compose(config);
  composition.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  composition.norms.weight_offset = 1.0;
  composition.norms.mlp = "pre_feedforward_layernorm";
  const backend::RmsNormOptions norm{.epsilon = static_cast<float>(config.rms_norm_eps),
                                     .weight_offset = 1.0F};
  composition.attention.output_norm = "post_attention_layernorm";
  composition.attention.norm_options = norm;
  composition.mlp.output_norm = "post_feedforward_layernorm";
  composition.mlp.norm_options = norm;
  composition.activation = nn::Activation::kGeGluTanh;
  composition.logits_soft_cap = *config.final_logit_softcapping;
  for (nn::AttentionKind& layer : composition.layers) {
    layer.scale = 1.0 / std::sqrt(config.query_pre_attn_scalar);
    layer.soft_cap = config.attn_logit_softcapping.value_or(0.0);
  }
  return composition;
}

Composition compose_gemma3(const ModelConfig& config) {
  Composition composition = compose_both(config);
  composition.attention.query_norm = "self_attn.q_norm";
  composition.attention.key_norm = "self_attn.k_norm";
  composition.ropes.push_back(make_rope(config.head_dim, config.rope_local_base_freq, {}));
  for (nn::AttentionKind& layer : composition.layers) layer.rope_table = layer.window > 0 ? 1 : 0;
  return composition;
}

void read_both(ConfigReader& reader, ModelConfig& config, std::int64_t max_position_embeddings) {
  reader.require("hidden_activation", {"gelu_pytorch_tanh"});
  reader.require("hidden_act", {"gelu_pytorch_tanh"});  // the same, in older files
  reader.require("attention_bias", {false});
  reader.require("use_bidirectional_attention", {false});
  reader.ignore({"cache_implementation"});
  llama_like::read_sizes(
      reader, config, {.max_position_embeddings = max_position_embeddings, .rms_norm_eps = 1e-6});
  config.query_pre_attn_scalar = static_cast<double>(reader.size("query_pre_attn_scalar", 256));
  llama_like::read_window(reader, config, 4096);
  config.layer_types = reader.texts("layer_types");
}

void write_both(const ModelConfig& config, ordered_json& out) {
  llama_like::write_sizes(config, out);
  out["hidden_activation"] = "gelu_pytorch_tanh";
  out["rope_theta"] = config.rope_theta;
  llama_like::write_scaling(config.rope_scaling, out);
  // transformers takes whole numbers alone.
  out["query_pre_attn_scalar"] = static_cast<std::int64_t>(config.query_pre_attn_scalar);
  llama_like::write_window(config, out);
  out["layer_types"] = config.types_of_layers();
  out["attention_bias"] = false;
  const auto cap = [](double value) { return value > 0.0 ? ordered_json(value) : ordered_json(); };
  out["attn_logit_softcapping"] = cap(config.attn_logit_softcapping.value_or(0.0));
  out["final_logit_softcapping"] = cap(*config.final_logit_softcapping);
}

void read_gemma2(ConfigReader& reader, ModelConfig& config) {
  read_both(reader, config, 8192);
  llama_like::read_rope(reader, config, 10000.0);
  config.attn_logit_softcapping = reader.positive_or_none("attn_logit_softcapping", 50.0);
  config.final_logit_softcapping = reader.positive_or_none("final_logit_softcapping", 30.0);
}

void read_gemma3(ConfigReader& reader, ModelConfig& config) {
  read_both(reader, config, 131072);
  config.attn_logit_softcapping = reader.positive_or_none("attn_logit_softcapping", 0.0);
  config.final_logit_softcapping = reader.positive_or_none("final_logit_softcapping", 0.0);
  const std::int64_t full_every = reader.size("sliding_window_pattern", 6);
  reader.require("_sliding_window_pattern", {full_every});
  if (config.layer_types.empty() && *config.sliding_window > 0) {
    for (std::int64_t layer = 1; layer <= config.num_hidden_layers; ++layer) {
      config.layer_types.emplace_back(layer % full_every == 0 ? kFullAttention : kSlidingAttention);
    }
  }
  config.rope_theta = reader.positive("rope_theta", 1000000.0);
  config.rope_local_base_freq = reader.positive("rope_local_base_freq", 10000.0);
  const std::int64_t length = config.max_position_embeddings;
  if (reader.has("rope_scaling")) {
    config.rope_scaling =
        llama_like::read_scaling(reader.object("rope_scaling"), config.rope_theta, length);
  }
  if (!reader.has("rope_parameters")) return;
  // transformers 5: a set for each kind of layer.
  ConfigReader sets = reader.object("rope_parameters");
  if (sets.has(kFullAttention)) {
    config.rope_scaling =
        llama_like::read_scaling(sets.object(kFullAttention), config.rope_theta, length);
  }
  if (sets.has(kSlidingAttention)) {
    ConfigReader local = sets.object(kSlidingAttention);
    local.require("rope_type", {"default"});
    config.rope_local_base_freq = local.positive("rope_theta", config.rope_local_base_freq);
    local.finish();
  }
  sets.finish();
}

void write_gemma3(const ModelConfig& config, ordered_json& out) {
  write_both(config, out);
  out["rope_local_base_freq"] = config.rope_local_base_freq;
  out["use_bidirectional_attention"] = false;
}

}  // namespace

Family gemma2() {
  return {.model_type = "gemma2",
          .architecture = "Gemma2ForCausalLM",
          .description =
              "norms before and behind each part, GeGLU, soft caps, a window in every "
              "other layer",
          .numbers = {{"rms_norm_eps", 1e-6},
                      {"rope_theta", 10000.0},
                      {"query_pre_attn_scalar", 256.0}},
          .max_position_embeddings = 8192,
          .tying = Tying::kYes,
          .head_dim = kHeadDim,
          .has_window = true,
          .sliding_window = 4096,
          .full_every = 2,
          .attn_logit_softcapping = 50.0,
          .final_logit_softcapping = 30.0,
          .compose = compose_both,
          .read = read_gemma2,
          .write = write_both};
}

Family gemma3_text() {
  return {.model_type = "gemma3_text",
          .architecture = "Gemma3ForCausalLM",
          .description =
              "norms before and behind each part and of queries and keys, GeGLU, five "
              "layers with a window to one without",
          .numbers = {{"rms_norm_eps", 1e-6},
                      {"rope_theta", 1000000.0},
                      {"rope_local_base_freq", 10000.0},
                      {"query_pre_attn_scalar", 256.0}},
          .max_position_embeddings = 131072,
          .tying = Tying::kYes,
          .head_dim = kHeadDim,
          .has_window = true,
          .sliding_window = 1024,
          .full_every = 6,
          .final_logit_softcapping = 0.0,
          .compose = compose_gemma3,
          .read = read_gemma3,
          .write = write_gemma3};
}

}  // namespace longspan::model
