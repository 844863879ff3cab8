#include "model/resolution.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "longspan/base/error.h"
#include "longspan/base/json.h"

namespace longspan::model {

using nlohmann::json;

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
    {"rope_local_base_freq", &ModelConfig::rope_local_base_freq},
    {"query_pre_attn_scalar", &ModelConfig::query_pre_attn_scalar},
};

/// Which of a scaling's numbers a type has, with the value where it is not given; 0: it must be.
struct ScalingNumber {
  const char* name;
  double RopeScaling::*member;
  double otherwise;
};
struct ScalingType {
  const char* name;
  std::vector<ScalingNumber> numbers;
  bool has_original;
};
const std::vector<ScalingType>& scaling_types() {
  static const std::vector<ScalingType> kTypes = {
      {"default", {}, false},
      {"linear", {{"factor", &RopeScaling::factor, 0.0}}, false},
      {"llama3",
       {{"factor", &RopeScaling::factor, 0.0},
        {"low_freq_factor", &RopeScaling::low_freq_factor, 1.0},
        {"high_freq_factor", &RopeScaling::high_freq_factor, 4.0}},
       true},
      {"yarn",
       {{"factor", &RopeScaling::factor, 0.0},
        {"beta_fast", &RopeScaling::beta_fast, 32.0},
        {"beta_slow", &RopeScaling::beta_slow, 1.0},
        {"attention_factor", &RopeScaling::attention_factor, 0.0}},
       true},
  };
  return kTypes;
}

/// Every number that some type has.
constexpr ScalingNumber kScalingNumbers[] = {
    {"factor", &RopeScaling::factor, 0.0},
    {"low_freq_factor", &RopeScaling::low_freq_factor, 0.0},
    {"high_freq_factor", &RopeScaling::high_freq_factor, 0.0},
    {"beta_fast", &RopeScaling::beta_fast, 0.0},
    {"beta_slow", &RopeScaling::beta_slow, 0.0},
    {"attention_factor", &RopeScaling::attention_factor, 0.0},
};

class Resolution {
 public:
  using Names = std::vector<std::pair<std::string, std::string>>;

  Resolution(ModelConfig& config, const Family& family, const std::string& prefix,
             const Names& names)
      : config_(config), family_(family), prefix_(prefix), names_(names) {}

  void run() {
    require_size("vocab_size", config_.vocab_size);
    require_size("hidden_size", config_.hidden_size);
    require_size("intermediate_size", config_.intermediate_size);
    require_size("num_hidden_layers", config_.num_hidden_layers);
    require_size("num_attention_heads", config_.num_attention_heads);
    settle_positions();
    settle_heads();
    for (const FamilyNumber& number : kFamilyNumbers) settle(number);
    if (config_.query_pre_attn_scalar != std::floor(config_.query_pre_attn_scalar)) {
      refuse("query_pre_attn_scalar", fmt::format("is {}; transformers takes whole numbers alone",
                                                  config_.query_pre_attn_scalar));
    }
    settle_scaling();
    settle_window();
    settle_cap("attn_logit_softcapping", config_.attn_logit_softcapping,
               family_.attn_logit_softcapping);
    settle_cap("final_logit_softcapping", config_.final_logit_softcapping,
               family_.final_logit_softcapping);
    settle_tying();
    require_real("initializer_range", config_.initializer_range, /*may_be_zero=*/true);
    const Composition composition = family_.compose(config_);
    if (composition.attention.is_rotary && config_.head_dim % 2 != 0) {
      refuse("head_dim",
             fmt::format("is {}{}; rotary positions need an even number", config_.head_dim,
                         family_.head_dim > 0
                             ? ""
                             : fmt::format(" (its default is {} / {})", name_of("hidden_size"),
                                           name_of("num_attention_heads"))));
    }
    require_countable(composition);
  }

 private:
  [[noreturn]] void refuse(const std::string& key, const std::string& why) const {
    throw base::InputError(fmt::format("{}{} {}", prefix_, name_of(key), why));
  }

  std::string name_of(const std::string& key) const {
    for (const auto& [ours, theirs] : names_) {
      if (ours == key) return theirs;
    }
    return key;
  }

  void require_size(const char* key, std::int64_t value) const {
    if (value < 1 || value > kMostSize) {
      refuse(key, fmt::format("is {}; legal: 1 to {}", value, kMostSize));
    }
  }

  void require_real(const std::string& key, double value, bool may_be_zero) const {
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
    if (config_.head_dim == 0)
      config_.head_dim = family_.head_dim > 0 ? family_.head_dim : even_share;
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

  /// The scaling's own type, whose numbers it has and no others.
  void settle_scaling() {
    RopeScaling& scaling = config_.rope_scaling;
    const bool is_rotary = default_of(family_, "rope_theta") != nullptr;
    if (!is_rotary && scaling != RopeScaling()) {
      refuse("rope_scaling", fmt::format("is given, but model_type \"{}\" has no rotary positions; "
                                         "leave it out",
                                         family_.model_type));
    }
    const ScalingType& type = scaling_type();
    for (const ScalingNumber& number : kScalingNumbers) settle(type, number.name, number.member);
    const std::int64_t original = scaling.original_max_position_embeddings;
    if (type.has_original) {
      require_size("rope_scaling.original_max_position_embeddings", original);
    } else if (original != 0) {
      refuse_scaling("original_max_position_embeddings", std::to_string(original), type);
    }
    if (scaling.rope_type == "yarn" && scaling.attention_factor == 0.0) {
      scaling.attention_factor = scaling.factor <= 1.0 ? 1.0 : 0.1 * std::log(scaling.factor) + 1.0;
    }
    if (scaling.rope_type == "llama3" && scaling.high_freq_factor <= scaling.low_freq_factor) {
      refuse("rope_scaling.high_freq_factor",
             fmt::format("is {}; expected more than low_freq_factor, {}", scaling.high_freq_factor,
                         scaling.low_freq_factor));
    }
  }

  const ScalingType& scaling_type() const {
    const std::string& name = config_.rope_scaling.rope_type;
    std::vector<std::string> words;
    for (const ScalingType& type : scaling_types()) {
      if (name == type.name) return type;
      words.push_back(fmt::format("\"{}\"", type.name));
    }
    refuse("rope_scaling.rope_type",
           fmt::format("is \"{}\"; legal: {}{}", name, fmt::join(words, ", "),
                       name == "dynamic"
                           ? " (dynamic frequencies depend on the length of each sequence: a "
                             "document's would depend on what it is packed with; \"yarn\" does the "
                             "same for a fixed length)"
                           : ""));
  }

  [[noreturn]] void refuse_scaling(const std::string& name, const std::string& value,
                                   const ScalingType& type) const {
    refuse("rope_scaling." + name,
           fmt::format("is {}, but rope_type \"{}\" has no such number; leave it out", value,
                       type.name));
  }

  void settle(const ScalingType& type, const std::string& name, double RopeScaling::*member) {
    double& value = config_.rope_scaling.*member;
    const auto found =
        std::find_if(type.numbers.begin(), type.numbers.end(),
                     [&](const ScalingNumber& number) { return name == number.name; });
    if (found == type.numbers.end()) {
      if (value != 0.0) refuse_scaling(name, base::json_text(json(value)), type);
      return;
    }
    if (value == 0.0) value = found->otherwise;
    if (name == "attention_factor" && value == 0.0) return;  // follows from the factor
    if (value == 0.0) {
      refuse("rope_scaling." + name,
             fmt::format("is missing; rope_type \"{}\" needs a number above 0", type.name));
    }
    require_real("rope_scaling." + name, value, /*may_be_zero=*/false);
  }

  void settle_window() {
    if (!config_.sliding_window) config_.sliding_window = family_.sliding_window;
    const std::int64_t window = *config_.sliding_window;
    if (window < 0 || window > kMostSize) {
      refuse("sliding_window", fmt::format("is {}; legal: 0 (none) to {}", window, kMostSize));
    }
    if (window > 0 && !family_.has_window) {
      refuse("sliding_window",
             fmt::format("is {}, but model_type \"{}\" has no window; leave it out", window,
                         family_.model_type));
    }
    if (!family_.has_window) config_.sliding_window.reset();
    if (!config_.layer_types.empty()) {
      check_layer_types(static_cast<std::size_t>(config_.num_hidden_layers), window);
    }
  }

  void check_layer_types(std::size_t layers, std::int64_t window) const {
    const std::vector<std::string>& types = config_.layer_types;
    if (types.size() != layers) {
      refuse("layer_types", fmt::format("names {} layers; expected {}, the number of {}",
                                        types.size(), layers, name_of("num_hidden_layers")));
    }
    for (const std::string& type : types) {
      if (type == kFullAttention || (type == kSlidingAttention && window > 0)) continue;
      refuse("layer_types", fmt::format("has a \"{}\"; legal: \"{}\"{}", type, kFullAttention,
                                        window > 0 ? fmt::format(" or \"{}\"", kSlidingAttention)
                                                   : ", as there is no sliding_window"));
    }
  }

  /// A soft cap, 0 for none.
  void settle_cap(const char* key, std::optional<double>& value,
                  const std::optional<double>& otherwise) const {
    if (!value) value = otherwise;
    if (!value) return;
    require_real(key, *value, /*may_be_zero=*/true);
    if (!otherwise && *value == 0.0) return value.reset();
    if (!otherwise) {
      refuse(key, fmt::format("is {}, but model_type \"{}\" has no such cap; leave it out",
                              base::json_text(json(*value)), family_.model_type));
    }
  }

  void settle_tying() {
    const bool always = family_.tying == Tying::kAlways;
    if (!config_.tie_word_embeddings) config_.tie_word_embeddings = family_.tying != Tying::kNo;
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

  static constexpr std::int64_t kMostSize = std::numeric_limits<std::int32_t>::max();

  ModelConfig& config_;
  const Family& family_;
  const std::string& prefix_;
  const Names& names_;
};

}  // namespace

const double* default_of(const Family& family, const std::string& number) {
  const auto found = std::find_if(family.numbers.begin(), family.numbers.end(),
                                  [&](const auto& known) { return known.first == number; });
  return found == family.numbers.end() ? nullptr : &found->second;
}

void resolve(ModelConfig& config, const Family& family, const std::string& prefix,
             const std::vector<std::pair<std::string, std::string>>& names) {
  Resolution(config, family, prefix, names).run();
}

}  // namespace longspan::model
