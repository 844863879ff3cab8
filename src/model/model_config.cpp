#include "longspan/model/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/base/json.h"
#include "model/family.h"

namespace longspan::model {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

/// Numbers that not all families have.
struct FamilyNumber {
  const char* name;
  double ModelConfig::*member;
};
constexpr FamilyNumber kFamilyNumbers[] = {
    {"rms_norm_eps", &ModelConfig::rms_norm_eps},
    {"layer_norm_epsilon", &ModelConfig::layer_norm_epsilon},
    {"rope_theta", &ModelConfig::rope_theta},
};

/// The value of a number where it is not given; null when the family has no such number.
const double* default_of(const Family& family, const std::string& number) {
  const auto found = std::find_if(family.numbers.begin(), family.numbers.end(),
                                  [&](const auto& known) { return known.first == number; });
  return found == family.numbers.end() ? nullptr : &found->second;
}

/// Fills in and checks a config. Members have the names of messages: "model.hidden_size" of a job,
/// "run/config.json: n_embd" of a file.
class Resolution {
 public:
  using Names = std::vector<std::pair<std::string, std::string>>;

  Resolution(ModelConfig& config, const Family& family, std::string prefix, Names names)
      : config_(config), family_(family), prefix_(std::move(prefix)), names_(std::move(names)) {}

  void run() {
    require_size("vocab_size", config_.vocab_size);
    require_size("hidden_size", config_.hidden_size);
    require_size("intermediate_size", config_.intermediate_size);
    require_size("num_hidden_layers", config_.num_hidden_layers);
    require_size("num_attention_heads", config_.num_attention_heads);
    settle_positions();
    settle_heads();
    for (const FamilyNumber& number : kFamilyNumbers) settle(number);
    settle_tying();
    require_real("initializer_range", config_.initializer_range, /*may_be_zero=*/true);
    const Composition composition = family_.compose(config_);
    if (composition.attention.is_rotary && config_.head_dim % 2 != 0) {
      refuse("head_dim",
             fmt::format("is {} (its default is {} / {}); rotary positions need an "
                         "even number",
                         config_.head_dim, name_of("hidden_size"), name_of("num_attention_heads")));
    }
    require_countable(composition);
  }

 private:
  [[noreturn]] void refuse(const char* key, const std::string& why) const {
    throw base::InputError(fmt::format("{}{} {}", prefix_, name_of(key), why));
  }

  std::string name_of(const std::string& key) const {
    for (const auto& [ours, theirs] : names_) {
      if (ours == key) return theirs;
    }
    return key;
  }

  void require_size(const char* key, std::int64_t value) const {
    constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
    if (value < 1 || value > kMost) {
      refuse(key, fmt::format("is {}; legal: 1 to {}", value, kMost));
    }
  }

  void require_real(const char* key, double value, bool may_be_zero) const {
    if (!std::isfinite(value) || value < 0.0 || (value == 0.0 && !may_be_zero)) {
      refuse(key, fmt::format("is {}; legal: a finite number {}", base::json_text(json(value)),
                              may_be_zero ? "of at least 0" : "above 0"));
    }
  }

  void require_multiple(const char* key, std::int64_t value, const char* divisor_key,
                        std::int64_t divisor) const {
    if (value % divisor != 0) {
      refuse(key,
             fmt::format("is {}, not a multiple of {} {}", value, name_of(divisor_key), divisor));
    }
  }

  void settle_positions() {
    if (config_.max_position_embeddings == 0) {
      config_.max_position_embeddings = family_.max_position_embeddings;
    }
    require_size("max_position_embeddings", config_.max_position_embeddings);
  }

  void settle_heads() {
    const std::int64_t heads = config_.num_attention_heads;
    if (config_.num_key_value_heads == 0) config_.num_key_value_heads = heads;
    require_size("num_key_value_heads", config_.num_key_value_heads);
    require_multiple("num_attention_heads", heads, "num_key_value_heads",
                     config_.num_key_value_heads);
    // With a head_dim of its own the model could do without this; transformers could not load it.
    require_multiple("hidden_size", config_.hidden_size, "num_attention_heads", heads);
    const std::int64_t even_share = config_.hidden_size / heads;
    if (config_.head_dim == 0) config_.head_dim = even_share;
    require_size("head_dim", config_.head_dim);
    if (!family_.has_plain_heads) return;
    require_plain("num_key_value_heads", config_.num_key_value_heads, "num_attention_heads", heads);
    require_plain("head_dim", config_.head_dim, "hidden_size / num_attention_heads", even_share);
  }

  void require_plain(const char* key, std::int64_t value, const char* what,
                     std::int64_t only) const {
    if (value != only) {
      refuse(key, fmt::format("is {}; model_type \"{}\" has no other than {}, which is {}: leave "
                              "it out",
                              value, family_.model_type, what, only));
    }
  }

  void settle(const FamilyNumber& number) {
    double& value = config_.*number.member;
    const double* const otherwise = default_of(family_, number.name);
    if (otherwise == nullptr) {
      if (value == 0.0) return;
      refuse(number.name,
             fmt::format("is {}, but model_type \"{}\" has no such number ({}); leave "
                         "it out",
                         base::json_text(json(value)), family_.model_type, family_.description));
    }
    if (value == 0.0) value = *otherwise;
    require_real(number.name, value, /*may_be_zero=*/false);
  }

  void settle_tying() {
    const bool always = family_.tying == Tying::kAlways;
    if (!config_.tie_word_embeddings) config_.tie_word_embeddings = always;
    if (always && !*config_.tie_word_embeddings) {
      refuse("tie_word_embeddings",
             fmt::format("is false, but the head of model_type \"{}\" always uses the embedding's "
                         "weights; leave it out",
                         family_.model_type));
    }
  }

  /// Throws when the model's size in elements is beyond what can be counted exactly.
  void require_countable(const Composition& composition) const {
    constexpr double kMost = 9007199254740992.0;  // 2^53
    if (!(all_parameters(config_, composition) <= kMost)) {
      refuse("hidden_size",
             fmt::format("{} and the other sizes make a model of more than 2^53 parameters",
                         config_.hidden_size));
    }
  }

  ModelConfig& config_;
  const Family& family_;
  std::string prefix_;
  Names names_;
};

/// What may stand in the config.json of any family without changing what is trained.
const std::vector<const char*> kHarmless = {"_name_or_path",
                                            "_attn_implementation",
                                            "bos_token_id",
                                            "eos_token_id",
                                            "pad_token_id",
                                            "sep_token_id",
                                            "decoder_start_token_id",
                                            "torch_dtype",
                                            "dtype",
                                            "transformers_version",
                                            "use_cache",
                                            "return_dict",
                                            "output_attentions",
                                            "output_hidden_states",
                                            "torchscript",
                                            "problem_type",
                                            "id2label",
                                            "label2id",
                                            "num_labels",
                                            "finetuning_task",
                                            "tokenizer_class",
                                            "task_specific_params",
                                            "chunk_size_feed_forward",
                                            "max_length",
                                            "min_length",
                                            "do_sample",
                                            "num_beams",
                                            "temperature",
                                            "top_k",
                                            "top_p",
                                            "keys_to_ignore_at_inference",
                                            "prefix"};

/// Refuses what no family can do.
void refuse_for_all(ConfigReader& reader, const Family& family) {
  reader.require("architectures", {json::array({family.architecture})});
  if (reader.has("quantization_config")) {
    reader.fail("quantization_config", "is set; quantised weights are not supported");
  }
  reader.require("is_encoder_decoder", {false});
  reader.require("is_decoder", {true, false});  // set or not, these classes are causal
  reader.require("add_cross_attention", {false});
  reader.require("cross_attention_hidden_size", {});
  reader.require("pruned_heads", {json::object()});
  reader.ignore(kHarmless);
}

std::string known_types() {
  std::vector<std::string> types;
  for (const Family& family : families()) types.push_back(fmt::format("\"{}\"", family.model_type));
  return fmt::format("{}", fmt::join(types, " or "));
}

const Family& read_family(ConfigReader& reader, const json& document) {
  if (!reader.has("model_type")) {
    reader.fail("model_type", fmt::format("is missing; expected {}", known_types()));
  }
  const json& name = document.at("model_type");
  const Family* const family = name.is_string() ? find_family(name.get<std::string>()) : nullptr;
  if (family == nullptr) {
    reader.fail("model_type",
                fmt::format("is {}; only {} is supported", base::json_text(name), known_types()));
  }
  return *family;
}

}  // namespace

void ModelConfig::resolve(const std::string& where) {
  const Family* const family = find_family(model_type);
  if (family == nullptr) {
    throw base::InputError(
        fmt::format("{}.model_type is \"{}\"; legal: {}", where, model_type, known_types()));
  }
  Resolution(*this, *family, where + ".", {}).run();
}

std::int64_t ModelConfig::parameters() const {
  return static_cast<std::int64_t>(all_parameters(*this, composition_of(*this)));
}

double ModelConfig::training_flops(std::int64_t tokens, double attention_pairs) const {
  const auto layers = static_cast<double>(num_hidden_layers);
  const double matmul_weights = layers * block_matmul_weights(*this, composition_of(*this)) +
                                static_cast<double>(vocab_size) * static_cast<double>(hidden_size);
  const double head_width = static_cast<double>(num_attention_heads * head_dim);
  return 6.0 * matmul_weights * static_cast<double>(tokens) +
         12.0 * layers * head_width * attention_pairs;
}

bool ModelConfig::has_learned_positions() const {
  return !composition_of(*this).learned_positions.empty();
}

std::string ModelConfig::to_config_json(const std::string& dtype, std::int64_t bos_id,
                                        std::int64_t eos_id) const {
  const Family& family = family_of(*this);
  ordered_json out;
  out["architectures"] = {family.architecture};
  out["model_type"] = family.model_type;
  family.write(*this, out);
  out["bos_token_id"] = bos_id < 0 ? ordered_json() : ordered_json(bos_id);
  out["eos_token_id"] = eos_id < 0 ? ordered_json() : ordered_json(eos_id);
  out["torch_dtype"] = dtype;
  return base::json_text(out, 2) + "\n";
}

ModelConfig ModelConfig::from_config_json(const std::string& text, const std::string& file) {
  const json document = base::try_parse_json(text);
  if (!document.is_object()) {
    throw base::InputError(file + " is not a JSON object; expected a Hugging Face config.json");
  }
  ConfigReader reader(document, file);
  const Family& family = read_family(reader, document);
  refuse_for_all(reader, family);
  ModelConfig config;
  config.model_type = family.model_type;
  family.read(reader, config);
  reader.finish();
  Resolution(config, family, file + ": ", family.names_in_file).run();
  return config;
}

std::vector<std::pair<std::string, std::string>> model_types() {
  std::vector<std::pair<std::string, std::string>> types;
  for (const Family& family : families()) types.emplace_back(family.model_type, family.description);
  return types;
}

std::string family_defaults(const std::string& key) {
  std::vector<std::string> texts;
  for (const Family& family : families()) {
    std::string value;
    if (key == "max_position_embeddings") {
      value = std::to_string(family.max_position_embeddings);
    } else if (key == "tie_word_embeddings") {
      value = family.tying == Tying::kAlways ? "always true" : "false";
    } else if (const double* const number = default_of(family, key)) {
      value = base::json_text(json(*number));
    }
    if (!value.empty()) texts.push_back(fmt::format("{} ({})", value, family.model_type));
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

}  // namespace longspan::model
