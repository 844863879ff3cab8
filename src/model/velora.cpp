#include "longspan/model/velora.h"

#include <fmt/format.h>

#include "longspan/base/error.h"

namespace longspan::model {

void VeloraConfig::check(const ModelConfig& config, const std::optional<LoraConfig>& lora,
                         const std::string& section) const {
  if (!is_on()) return;
  check_trained_targets(target_modules, config, lora, section + ".target_modules");
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
  for (const LinearModule& module : trained_modules(config, target_modules, lora)) {
    const auto outputs = static_cast<double>(lora ? lora->rank : module.outputs);
    const auto inputs = static_cast<double>(module.inputs);
    // The products with the direction are made instead.
    saved += 2.0 * outputs * (inputs - static_cast<double>(groups)) - 2.0 * inputs;
  }
  return saved;
}

}  // namespace longspan::model
