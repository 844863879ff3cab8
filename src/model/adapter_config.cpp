#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "longspan/base/error.h"
#include "longspan/base/json.h"
#include "longspan/model/lora.h"
#include "longspan/nn/lora.h"
#include "model/config_reader.h"

namespace longspan::model {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

/// Keys that say how an adapter came about, or how PEFT is to run it, and change nothing of what it
/// computes.
const std::vector<const char*> kHarmless = {
    "auto_mapping",   "ensure_weight_tying", "fan_in_fan_out", "inference_mode",
    "layers_pattern", "megatron_core",       "peft_version",   "qalora_group_size",
    "revision",       "runtime_config",      "loftq_config"};

/// Other methods than plain LoRA, each off where it is null, false or empty.
void refuse_other_methods(ConfigReader& reader) {
  for (const char* key : {"use_dora", "use_qalora", "lora_bias"}) reader.require(key, {false});
  for (const char* key : {"rank_pattern", "alpha_pattern"}) reader.require(key, {json::object()});
  for (const char* key :
       {"alora_invocation_tokens", "arrow_config", "corda_config", "eva_config", "exclude_modules",
        "kasa_config", "layer_replication", "layers_to_transform", "lora_ga_config",
        "megatron_config", "modules_to_save", "monteclora_config", "target_parameters",
        "trainable_token_indices", "use_bdlora", "velora_config"}) {
    if (reader.has(key)) reader.fail(key, "is set; adapters with it are not supported");
  }
  reader.require("bias", {"none"});
  // The others change the base's weights, too.
  reader.require("init_lora_weights", {true, false, "gaussian", "orthogonal"});
}

std::vector<std::string> read_targets(ConfigReader& reader, const json& document) {
  constexpr const char* kKey = "target_modules";
  if (reader.has(kKey) && document.at(kKey).is_string()) {
    const std::string word = reader.text(kKey, "");
    if (word == nn::ModuleNames::kAllLinear) return {word};
    reader.fail(kKey, fmt::format("is the pattern \"{}\"; only a list of names, or \"{}\", is "
                                  "supported",
                                  word, nn::ModuleNames::kAllLinear));
  }
  std::vector<std::string> targets = reader.texts(kKey);
  if (targets.empty()) reader.fail(kKey, "is missing or empty; expected a list of modules' names");
  return targets;
}

}  // namespace

std::string AdapterConfig::to_json(const ModelConfig& model) const {
  const bool is_all = lora.target_modules.front() == nn::ModuleNames::kAllLinear;
  ordered_json out;
  out["peft_type"] = "LORA";
  out["task_type"] = "CAUSAL_LM";
  out["base_model_name_or_path"] = base.empty() ? ordered_json() : ordered_json(base);
  out["r"] = lora.rank;
  // A whole number as such, as PEFT declares it.
  const bool is_whole = std::trunc(lora.alpha) == lora.alpha && std::abs(lora.alpha) < 1e15;
  out["lora_alpha"] =
      is_whole ? ordered_json(static_cast<std::int64_t>(lora.alpha)) : ordered_json(lora.alpha);
  out["lora_dropout"] = lora.dropout;
  // By name: PEFT's own "all-linear" might take in more.
  out["target_modules"] = is_all ? linear_modules(model) : lora.target_modules;
  out["use_rslora"] = lora.rank_stabilized;
  out["fan_in_fan_out"] = stores_inputs_first(model);
  out["bias"] = "none";
  out["inference_mode"] = true;
  return base::json_text(out, 2) + "\n";
}

AdapterConfig AdapterConfig::from_json(const std::string& text, const std::string& file) {
  const json document = base::try_parse_json(text);
  if (!document.is_object()) {
    throw base::InputError(file + " is not a JSON object; expected PEFT's adapter_config.json");
  }
  ConfigReader reader(document, file);
  if (!reader.has("peft_type")) reader.fail("peft_type", "is missing; expected \"LORA\"");
  reader.require("peft_type", {"LORA"});
  reader.require("task_type", {"CAUSAL_LM"});
  refuse_other_methods(reader);
  AdapterConfig config;
  config.base = reader.text("base_model_name_or_path", "");
  config.lora.rank = reader.size("r", 8);
  config.lora.alpha = reader.positive("lora_alpha", 8.0);
  config.lora.dropout = reader.real("lora_dropout", 0.0);
  if (!(config.lora.dropout >= 0.0 && config.lora.dropout < 1.0)) {
    reader.fail("lora_dropout",
                fmt::format("is {}; expected a number in [0, 1)", config.lora.dropout));
  }
  config.lora.rank_stabilized = reader.boolean("use_rslora", false);
  config.lora.target_modules = read_targets(reader, document);
  reader.ignore(kHarmless);
  reader.finish();
  return config;
}

}  // namespace longspan::model
