#include "model/families/llama_like.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace longspan::model::llama_like {

using nlohmann::json;
using nlohmann::ordered_json;

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
  composition.ropes = {make_rope(config.head_dim, config.rope_theta, config.rope_scaling)};
  for (const std::string& type : config.types_of_layers()) {
    composition.layers.push_back(
        {.window = type == kSlidingAttention ? *config.sliding_window : 0});
  }
  if (!*config.tie_word_embeddings) composition.head = "lm_head";
  return composition;
}

void read(ConfigReader& reader, ModelConfig& config, const Defaults& defaults) {
  reader.require("hidden_act", {"silu"});
  read_sizes(reader, config, defaults);
  read_rope(reader, config, 10000.0);
}

void write(const ModelConfig& config, ordered_json& out) {
  write_sizes(config, out);
  out["rope_theta"] = config.rope_theta;
  write_scaling(config.rope_scaling, out);
  out["hidden_act"] = "silu";
}

void read_sizes(ConfigReader& reader, ModelConfig& config, const Defaults& defaults) {
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
  if (reader.has("tie_word_embeddings")) {
    config.tie_word_embeddings = reader.boolean("tie_word_embeddings", false);
  }
  config.initializer_range = reader.real("initializer_range", 0.02);
}

void write_sizes(const ModelConfig& config, ordered_json& out) {
  out["vocab_size"] = config.vocab_size;
  out["hidden_size"] = config.hidden_size;
  out["intermediate_size"] = config.intermediate_size;
  out["num_hidden_layers"] = config.num_hidden_layers;
  out["num_attention_heads"] = config.num_attention_heads;
  out["num_key_value_heads"] = config.num_key_value_heads;
  out["head_dim"] = config.head_dim;
  out["max_position_embeddings"] = config.max_position_embeddings;
  out["rms_norm_eps"] = config.rms_norm_eps;
  out["tie_word_embeddings"] = *config.tie_word_embeddings;
  out["initializer_range"] = config.initializer_range;
  out["attention_dropout"] = 0.0;
}

RopeScaling read_scaling(ConfigReader rope, double& theta, std::int64_t max_position_embeddings) {
  RopeScaling scaling;
  scaling.rope_type = rope.text("rope_type", rope.text("type", "default"));
  rope.require("type", {scaling.rope_type});
  if (scaling.rope_type == "longrope" || scaling.rope_type == "su") {
    rope.fail("rope_type", "is \"" + scaling.rope_type +
                               "\", whose frequencies depend on the length of each sequence: a "
                               "document's would depend on what it is packed with");
  }
  rope.require("partial_rotary_factor", {1.0});
  rope.require("truncate", {true});
  const auto number = [&rope](const char* key) { return rope.positive_or_none(key, 0.0); };
  scaling.factor = number("factor");
  scaling.low_freq_factor = number("low_freq_factor");
  scaling.high_freq_factor = number("high_freq_factor");
  scaling.beta_fast = number("beta_fast");
  scaling.beta_slow = number("beta_slow");
  scaling.attention_factor = number("attention_factor");
  // transformers takes the model's length where the first one is not given.
  const bool has_original = scaling.rope_type == "llama3" || scaling.rope_type == "yarn";
  scaling.original_max_position_embeddings =
      rope.size("original_max_position_embeddings", has_original ? max_position_embeddings : 0);
  if (scaling.rope_type == "llama3") {
    for (const char* key : {"low_freq_factor", "high_freq_factor"}) {
      if (!rope.has(key)) rope.fail(key, "is missing; expected a number above 0");
    }
  }
  theta = rope.positive("rope_theta", theta);
  rope.finish();
  return scaling;
}

void read_rope(ConfigReader& reader, ModelConfig& config, double theta_otherwise) {
  reader.require("partial_rotary_factor", {1.0});
  config.rope_theta = reader.positive("rope_theta", theta_otherwise);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!reader.has(key)) continue;
    config.rope_scaling =
        read_scaling(reader.object(key), config.rope_theta, config.max_position_embeddings);
  }
}

void write_scaling(const RopeScaling& scaling, ordered_json& out) {
  if (scaling.rope_type == "default") return;
  ordered_json& written = out["rope_scaling"];
  written["rope_type"] = scaling.rope_type;
  const auto write = [&written](const char* key, double value) {
    if (value > 0.0) written[key] = value;
  };
  write("factor", scaling.factor);
  write("low_freq_factor", scaling.low_freq_factor);
  write("high_freq_factor", scaling.high_freq_factor);
  write("beta_fast", scaling.beta_fast);
  write("beta_slow", scaling.beta_slow);
  write("attention_factor", scaling.attention_factor);
  if (scaling.original_max_position_embeddings > 0) {
    written["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
  }
}

void read_optional_window(ConfigReader& reader, ModelConfig& config) {
  const bool is_used = reader.boolean("use_sliding_window", false);
  const std::int64_t window = reader.size_or_none("sliding_window", 4096);
  const std::int64_t first = reader.integer("max_window_layers", 28);
  config.sliding_window = is_used ? window : 0;
  config.layer_types = reader.texts("layer_types");
  if (*config.sliding_window == 0 || !config.layer_types.empty()) return;
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    config.layer_types.emplace_back(layer < first ? kFullAttention : kSlidingAttention);
  }
}

void write_optional_window(const ModelConfig& config, ordered_json& out) {
  const std::vector<std::string> types = config.types_of_layers();
  const auto first = std::find(types.begin(), types.end(), kSlidingAttention);
  out["use_sliding_window"] = *config.sliding_window > 0;
  out["sliding_window"] =
      *config.sliding_window > 0 ? ordered_json(*config.sliding_window) : ordered_json();
  out["max_window_layers"] = first - types.begin();
  out["layer_types"] = types;
}

void read_window(ConfigReader& reader, ModelConfig& config, std::int64_t otherwise) {
  config.sliding_window = reader.size_or_none("sliding_window", otherwise);
}

void write_window(const ModelConfig& config, ordered_json& out) {
  out["sliding_window"] =
      *config.sliding_window > 0 ? ordered_json(*config.sliding_window) : ordered_json();
}

}  // namespace longspan::model::llama_like
