#include "model/families/llama_like.h"

#include <nlohmann/json.hpp>

namespace longspan::model::llama_like {
namespace {

/// transformers 4 writes rope_theta and rope_scaling, 5 writes rope_parameters.
double read_rope_theta(ConfigReader& reader, double otherwise) {
  double theta = reader.positive("rope_theta", otherwise);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!reader.has(key)) continue;
    ConfigReader rope = reader.object(key);
    rope.require("rope_type", {"default"});
    rope.require("type", {"default"});
    rope.require("partial_rotary_factor", {1.0});
    theta = rope.positive("rope_theta", theta);
    rope.finish();
  }
  return theta;
}

}  // namespace

Composition compose(const ModelConfig& config) {
  Composition composition;
  composition.embedding = "model.embed_tokens";
  composition.blocks = "model.layers.";
  composition.norms = {.kind = NormKind::kRms,
                       .epsilon = config.rms_norm_eps,
                       .attention = "input_layernorm",
                       .mlp = "post_attention_layernorm",
                       .last = "model.norm"};
  composition.attention.qkv = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
  composition.attention.output = "self_attn.o_proj";
  composition.activation = nn::Activation::kSwiGlu;
  composition.mlp.up = {"mlp.gate_proj", "mlp.up_proj"};
  composition.mlp.down = "mlp.down_proj";
  composition.rope_theta = config.rope_theta;
  if (!*config.tie_word_embeddings) composition.head = "lm_head";
  return composition;
}

void read(ConfigReader& reader, ModelConfig& config, const Defaults& defaults) {
  reader.require("hidden_act", {"silu"});
  reader.require("attention_dropout", {0.0});
  config.vocab_size = reader.integer("vocab_size");
  config.hidden_size = reader.integer("hidden_size");
  config.intermediate_size = reader.integer("intermediate_size");
  config.num_hidden_layers = reader.integer("num_hidden_layers");
  config.num_attention_heads = reader.integer("num_attention_heads");
  config.num_key_value_heads = reader.integer("num_key_value_heads", 0);
  config.head_dim = reader.integer("head_dim", 0);
  config.max_position_embeddings =
      reader.size("max_position_embeddings", defaults.max_position_embeddings);
  config.rms_norm_eps = reader.positive("rms_norm_eps", defaults.rms_norm_eps);
  config.rope_theta = read_rope_theta(reader, 10000.0);
  config.tie_word_embeddings = reader.boolean("tie_word_embeddings", false);
  config.initializer_range = reader.real("initializer_range", 0.02);
}

void write(const ModelConfig& config, nlohmann::ordered_json& out) {
  out["vocab_size"] = config.vocab_size;
  out["hidden_size"] = config.hidden_size;
  out["intermediate_size"] = config.intermediate_size;
  out["num_hidden_layers"] = config.num_hidden_layers;
  out["num_attention_heads"] = config.num_attention_heads;
  out["num_key_value_heads"] = config.num_key_value_heads;
  out["head_dim"] = config.head_dim;
  out["max_position_embeddings"] = config.max_position_embeddings;
  out["rms_norm_eps"] = config.rms_norm_eps;
  out["rope_theta"] = config.rope_theta;
  out["tie_word_embeddings"] = *config.tie_word_embeddings;
  out["initializer_range"] = config.initializer_range;
  out["hidden_act"] = "silu";
  out["attention_dropout"] = 0.0;
}

}  // namespace longspan::model::llama_like
