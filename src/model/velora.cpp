#include "longspan/model/velora.h"

#include <fmt/format.h>

#include <utility>

#include "longspan/base/error.h"
#include "longspan/nn/weight_gradient.h"

namespace longspan::model {
namespace {

/// Those beside which there are adapters.
std::vector<LinearModule> adapted(std::vector<LinearModule> modules, const LoraConfig& lora) {
  const nn::ModuleNames names{lora.target_modules};
  std::erase_if(modules, [&](const LinearModule& one) { return !names.contain(one.name); });
  return modules;
}

}  // namespace

void VeloraConfig::check(const ModelConfig& config, const std::optional<LoraConfig>& lora,
                         const std::string& section) const {
  if (!is_on()) return;
  check_targets(target_modules, config, section + ".target_modules");
  for (const std::string& target : target_modules) {
    if (!lora || !adapted(targeted_modules(config, {target}), *lora).empty()) continue;
    throw base::InputError(
        fmt::format("{}.target_modules names \"{}\", but what is trained are adapters, and "
                    "adapter.target_modules has none there",
                    section, target));
  }
  if (stores_inputs_first(config)) {
    throw base::InputError(fmt::format(
        "{} is not for model_type \"{}\", whose matrices are stored inputs first: neighbours of "
        "their rows are not of one group; leave the section out",
        section, config.model_type));
  }
  for (const LinearModule& module : targeted_modules(config, target_modules)) {
    if (module.inputs % groups == 0) continue;
    throw base::InputError(fmt::format(
        "{0}.groups is {1}, which does not divide the {2} inputs of {3}, which {0}.target_modules "
        "names",
        section, groups, module.inputs, module.name));
  }
}

double VeloraConfig::saved_flops(const ModelConfig& config,
                                 const std::optional<LoraConfig>& lora) const {
  double saved = 0;
  std::vector<LinearModule> modules = targeted_modules(config, target_modules);
  if (lora) modules = adapted(std::move(modules), *lora);
  for (const LinearModule& module : modules) {
    const auto outputs = static_cast<double>(lora ? lora->rank : module.outputs);
    const auto inputs = static_cast<double>(module.inputs);
    // The products with the direction are made instead.
    saved += 2.0 * outputs * (inputs - static_cast<double>(groups)) - 2.0 * inputs;
  }
  return saved;
}

}  // namespace longspan::model
