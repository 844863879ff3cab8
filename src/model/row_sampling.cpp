#include "longspan/model/row_sampling.h"

namespace longspan::model {

void RowSamplingConfig::check(const ModelConfig& config, const std::optional<LoraConfig>& lora,
                              const std::string& section) const {
  if (is_on()) check_trained_targets(target_modules, config, lora, section + ".target_modules");
}

double RowSamplingConfig::saved_flops(const ModelConfig& config,
                                      const std::optional<LoraConfig>& lora) const {
  double saved = 0;
  if (!is_on()) return saved;
  for (const LinearModule& module : trained_modules(config, target_modules, lora)) {
    const auto outputs = static_cast<double>(lora ? lora->rank : module.outputs);
    saved += 2.0 * (1.0 - ratio) * outputs * static_cast<double>(module.inputs);
  }
  return saved;
}

}  // namespace longspan::model
