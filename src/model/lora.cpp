#include "longspan/model/lora.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "longspan/base/error.h"
#include "longspan/nn/lora.h"
#include "model/composition.h"

namespace longspan::model {
namespace {

/// The matrices of a block, by their names in it, of which those that lie together in one product
/// are several.
std::vector<LinearModule> modules_of(const ModelConfig& config, const Composition& composition) {
  const std::int64_t q = config.num_attention_heads * config.head_dim;
  const std::int64_t kv = config.num_key_value_heads * config.head_dim;
  std::vector<LinearModule> modules;
  const std::vector<std::string>& qkv = composition.attention.qkv;
  for (std::size_t i = 0; i < qkv.size(); ++i) {
    const std::int64_t width = qkv.size() == 1 ? q + 2 * kv : i == 0 ? q : kv;
    modules.push_back({qkv[i], config.hidden_size, width});
  }
  modules.push_back({composition.attention.output, q, config.hidden_size});
  const bool is_gated = composition.activation != nn::Activation::kGeluTanh;
  const auto parts = static_cast<std::int64_t>(composition.mlp.up.size());
  for (const std::string& name : composition.mlp.up) {
    modules.push_back(
        {name, config.hidden_size, (is_gated ? 2 : 1) * config.intermediate_size / parts});
  }
  modules.push_back({composition.mlp.down, config.intermediate_size, config.hidden_size});
  return modules;
}

}  // namespace

double LoraConfig::scale() const {
  const auto width = static_cast<double>(rank);
  return alpha / (rank_stabilized ? std::sqrt(width) : width);
}

std::vector<LinearModule> targeted_modules(const ModelConfig& config,
                                           const std::vector<std::string>& targets) {
  const Composition composition = composition_of(config);
  const nn::ModuleNames names{targets};
  std::vector<LinearModule> targeted;
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    for (LinearModule& module : modules_of(config, composition)) {
      module.name = fmt::format("{}{}.{}", composition.blocks, layer, module.name);
      if (names.contain(module.name)) targeted.push_back(std::move(module));
    }
  }
  return targeted;
}

std::vector<LinearModule> trained_modules(const ModelConfig& config,
                                          const std::vector<std::string>& targets,
                                          const std::optional<LoraConfig>& lora) {
  std::vector<LinearModule> modules = targeted_modules(config, targets);
  if (!lora) return modules;
  const nn::ModuleNames names{lora->target_modules};
  std::erase_if(modules, [&](const LinearModule& one) { return !names.contain(one.name); });
  return modules;
}

void check_trained_targets(const std::vector<std::string>& targets, const ModelConfig& config,
                           const std::optional<LoraConfig>& lora, const std::string& key) {
  check_targets(targets, config, key);
  for (const std::string& target : targets) {
    if (!trained_modules(config, {target}, lora).empty()) continue;
    throw base::InputError(
        fmt::format("{} names \"{}\", but what is trained are adapters, and "
                    "adapter.target_modules has none there",
                    key, target));
  }
}

void check_targets(const std::vector<std::string>& targets, const ModelConfig& config,
                   const std::string& key) {
  for (const std::string& target : targets) {
    const bool is_word = target == nn::ModuleNames::kAllLinear;
    if (is_word && targets.size() == 1) continue;
    if (!is_word && !targeted_modules(config, {target}).empty()) continue;
    throw base::InputError(fmt::format(
        "{} names \"{}\", of which the model (model_type \"{}\") has no matrix{}; legal: \"{}\" "
        "{}, or some of {}",
        key, target, config.model_type, is_word ? " beside others" : "",
        nn::ModuleNames::kAllLinear, "alone", fmt::join(linear_modules(config), ", ")));
  }
}

std::vector<std::string> linear_modules(const ModelConfig& config) {
  std::vector<std::string> names;
  for (const LinearModule& module : modules_of(config, composition_of(config))) {
    const std::string name = module.name.substr(module.name.rfind('.') + 1);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

bool stores_inputs_first(const ModelConfig& config) {
  return composition_of(config).attention.qkv_options.inputs_first;
}

double adapter_training_flops(const ModelConfig& config, const LoraConfig& lora,
                              const std::vector<std::int32_t>& cu_seqlens) {
  const auto tokens = static_cast<double>(cu_seqlens.back());
  return config.training_flops(cu_seqlens) - 2.0 * config.matmul_weights() * tokens +
         6.0 * static_cast<double>(adapter_parameters(config, lora)) * tokens;
}

std::int64_t adapter_parameters(const ModelConfig& config, const LoraConfig& lora) {
  std::int64_t count = 0;
  for (const LinearModule& module : targeted_modules(config, lora.target_modules)) {
    count += lora.rank * (module.inputs + module.outputs);
  }
  return count;
}

}  // namespace longspan::model
