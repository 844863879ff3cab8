#include "longspan/model/llama_config.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "longspan/base/error.h"

namespace longspan::model {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

/// `prefix` stands before a key in a message: "model." or "run/config.json: ".
void require_size(const std::string& prefix, const char* key, std::int64_t value) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (value < 1 || value > kMost) {
    throw base::InputError(prefix + key + " is " + std::to_string(value) + "; legal: 1 to " +
                           std::to_string(kMost));
  }
}

void require_real(const std::string& prefix, const char* key, double value, bool may_be_zero) {
  if (!std::isfinite(value) || value < 0.0 || (value == 0.0 && !may_be_zero)) {
    throw base::InputError(prefix + key + " is " + json(value).dump() +
                           "; legal: a finite number " +
                           (may_be_zero ? "of at least 0" : "above 0"));
  }
}

void require_multiple(const std::string& prefix, const char* key, std::int64_t value,
                      const char* divisor_key, std::int64_t divisor) {
  if (value % divisor != 0) {
    throw base::InputError(prefix + key + " is " + std::to_string(value) + ", not a multiple of " +
                           divisor_key + " " + std::to_string(divisor));
  }
}

void resolve_with_prefix(LlamaConfig& config, const std::string& prefix) {
  require_size(prefix, "vocab_size", config.vocab_size);
  require_size(prefix, "hidden_size", config.hidden_size);
  require_size(prefix, "intermediate_size", config.intermediate_size);
  require_size(prefix, "num_hidden_layers", config.num_hidden_layers);
  require_size(prefix, "num_attention_heads", config.num_attention_heads);
  require_size(prefix, "max_position_embeddings", config.max_position_embeddings);
  if (config.num_key_value_heads == 0) config.num_key_value_heads = config.num_attention_heads;
  require_size(prefix, "num_key_value_heads", config.num_key_value_heads);
  require_multiple(prefix, "num_attention_heads", config.num_attention_heads, "num_key_value_heads",
                   config.num_key_value_heads);
  // With a head_dim of its own the model could do without this; transformers could not load it.
  require_multiple(prefix, "hidden_size", config.hidden_size, "num_attention_heads",
                   config.num_attention_heads);
  if (config.head_dim == 0) config.head_dim = config.hidden_size / config.num_attention_heads;
  require_size(prefix, "head_dim", config.head_dim);
  if (config.head_dim % 2 != 0) {
    throw base::InputError(prefix + "head_dim is " + std::to_string(config.head_dim) +
                           " (its default is hidden_size / num_attention_heads); rotary positions "
                           "need an even number");
  }
  require_real(prefix, "rms_norm_eps", config.rms_norm_eps, /*may_be_zero=*/false);
  require_real(prefix, "rope_theta", config.rope_theta, /*may_be_zero=*/false);
  require_real(prefix, "initializer_range", config.initializer_range, /*may_be_zero=*/true);
}

/// Weights of the matmuls of one layer, in double so that absurd sizes do not overflow.
double layer_matmul_parameters(const LlamaConfig& c) {
  const auto hidden = static_cast<double>(c.hidden_size);
  const auto heads = static_cast<double>(2 * c.num_attention_heads + 2 * c.num_key_value_heads);
  return hidden *
         (heads * static_cast<double>(c.head_dim) + 3.0 * static_cast<double>(c.intermediate_size));
}

/// Throws when the model's size in elements is beyond what can be counted exactly.
void require_countable(const LlamaConfig& c, const std::string& prefix) {
  constexpr double kMost = 9007199254740992.0;  // 2^53
  const auto hidden = static_cast<double>(c.hidden_size);
  const double layers = static_cast<double>(c.num_hidden_layers);
  const double total = 2.0 * static_cast<double>(c.vocab_size) * hidden + hidden +
                       layers * (layer_matmul_parameters(c) + 2.0 * hidden);
  if (total > kMost) {
    throw base::InputError(prefix + "hidden_size " + std::to_string(c.hidden_size) +
                           " and the other sizes make a model of more than 2^53 parameters");
  }
}

/// Reads keys of a config.json by name, with messages that name file and key.
class ConfigReader {
 public:
  ConfigReader(const json& object, std::string file) : object_(object), file_(std::move(file)) {}

  bool has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }

  std::int64_t integer(const char* key) const {
    if (!has(key)) fail(key, "is missing; expected an integer");
    return integer(key, 0);
  }
  std::int64_t integer(const char* key, std::int64_t otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_.at(key).is_number_integer()) fail(key, found(key) + "; expected an integer");
    return object_.at(key).get<std::int64_t>();
  }
  double real(const char* key, double otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_.at(key).is_number()) fail(key, found(key) + "; expected a number");
    return object_.at(key).get<double>();
  }
  bool boolean(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_.at(key).is_boolean()) fail(key, found(key) + "; expected true or false");
    return object_.at(key).get<bool>();
  }
  /// Refuses a key whose value is present and is not the one that this program can do.
  void require(const char* key, const json& only) const {
    if (has(key) && object_.at(key) != only) {
      fail(key, found(key) + "; only " + only.dump() + " is supported");
    }
  }
  ConfigReader object(const char* key) const {
    if (!object_.at(key).is_object()) fail(key, found(key) + "; expected an object");
    return {object_.at(key), file_ + ": " + key};
  }
  [[noreturn]] void fail(const char* key, const std::string& what) const {
    throw base::InputError(file_ + ": " + key + " " + what);
  }

 private:
  std::string found(const char* key) const { return "is " + object_.at(key).dump(); }

  const json& object_;
  std::string file_;
};

/// What a config.json may ask for and this model does not do.
void refuse_unsupported(const ConfigReader& reader) {
  reader.require("model_type", "llama");
  reader.require("architectures", json::array({"LlamaForCausalLM"}));
  reader.require("hidden_act", "silu");
  reader.require("attention_bias", false);
  reader.require("mlp_bias", false);
  reader.require("attention_dropout", 0.0);
  reader.require("partial_rotary_factor", 1.0);
  if (reader.has("quantization_config")) {
    reader.fail("quantization_config", "is set; quantised weights are not supported");
  }
}

/// transformers 4 writes rope_theta and rope_scaling, 5 writes rope_parameters.
double read_rope_theta(const ConfigReader& reader, double otherwise) {
  double theta = reader.real("rope_theta", otherwise);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!reader.has(key)) continue;
    const ConfigReader rope = reader.object(key);
    rope.require("rope_type", "default");
    rope.require("type", "default");
    rope.require("partial_rotary_factor", 1.0);
    theta = rope.real("rope_theta", theta);
  }
  return theta;
}

}  // namespace

void LlamaConfig::resolve(const std::string& where) {
  resolve_with_prefix(*this, where + ".");
  require_countable(*this, where + ".");
}

std::int64_t LlamaConfig::parameters() const {
  const std::int64_t attention =
      hidden_size * head_dim * 2 * (num_attention_heads + num_key_value_heads);
  const std::int64_t layer = attention + 3 * hidden_size * intermediate_size + 2 * hidden_size;
  const std::int64_t table = vocab_size * hidden_size;
  return num_hidden_layers * layer + hidden_size + (tie_word_embeddings ? 1 : 2) * table;
}

double LlamaConfig::training_flops(std::int64_t tokens, double attention_pairs) const {
  const auto layers = static_cast<double>(num_hidden_layers);
  const double matmul_parameters =
      layers * layer_matmul_parameters(*this) +
      static_cast<double>(vocab_size) * static_cast<double>(hidden_size);
  const double head_width = static_cast<double>(num_attention_heads * head_dim);
  return 6.0 * matmul_parameters * static_cast<double>(tokens) +
         12.0 * layers * head_width * attention_pairs;
}

std::string LlamaConfig::to_config_json(const std::string& dtype, std::int64_t bos_id,
                                        std::int64_t eos_id) const {
  ordered_json out;
  out["architectures"] = {"LlamaForCausalLM"};
  out["model_type"] = "llama";
  out["vocab_size"] = vocab_size;
  out["hidden_size"] = hidden_size;
  out["intermediate_size"] = intermediate_size;
  out["num_hidden_layers"] = num_hidden_layers;
  out["num_attention_heads"] = num_attention_heads;
  out["num_key_value_heads"] = num_key_value_heads;
  out["head_dim"] = head_dim;
  out["max_position_embeddings"] = max_position_embeddings;
  out["rms_norm_eps"] = rms_norm_eps;
  out["rope_theta"] = rope_theta;
  out["tie_word_embeddings"] = tie_word_embeddings;
  out["initializer_range"] = initializer_range;
  out["hidden_act"] = "silu";
  out["attention_bias"] = false;
  out["mlp_bias"] = false;
  out["attention_dropout"] = 0.0;
  out["bos_token_id"] = bos_id < 0 ? ordered_json() : ordered_json(bos_id);
  out["eos_token_id"] = eos_id < 0 ? ordered_json() : ordered_json(eos_id);
  out["torch_dtype"] = dtype;
  return out.dump(2) + "\n";
}

LlamaConfig LlamaConfig::from_config_json(const std::string& text, const std::string& file) {
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) {
    throw base::InputError(file + " is not a JSON object; expected a Hugging Face config.json");
  }
  const ConfigReader reader(document, file);
  if (!reader.has("model_type")) reader.fail("model_type", "is missing; expected \"llama\"");
  refuse_unsupported(reader);

  LlamaConfig config;
  config.vocab_size = reader.integer("vocab_size");
  config.hidden_size = reader.integer("hidden_size");
  config.intermediate_size = reader.integer("intermediate_size");
  config.num_hidden_layers = reader.integer("num_hidden_layers");
  config.num_attention_heads = reader.integer("num_attention_heads");
  config.num_key_value_heads = reader.integer("num_key_value_heads", 0);
  config.head_dim = reader.integer("head_dim", 0);
  // Absent keys take transformers' defaults.
  config.max_position_embeddings = reader.integer("max_position_embeddings", 2048);
  config.rms_norm_eps = reader.real("rms_norm_eps", 1e-6);
  config.rope_theta = read_rope_theta(reader, 10000.0);
  config.tie_word_embeddings = reader.boolean("tie_word_embeddings", false);
  config.initializer_range = reader.real("initializer_range", 0.02);
  resolve_with_prefix(config, file + ": ");
  require_countable(config, file + ": ");
  return config;
}

}  // namespace longspan::model
