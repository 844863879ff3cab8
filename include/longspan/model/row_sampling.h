#pragma once

#include <optional>
#include <string>
#include <vector>

#include "longspan/model/lora.h"
#include "longspan/model/model_config.h"

namespace longspan::model {

/// Gradients of matrices, or of adapters' As beside these, that are made of sampled tokens
/// (column-row sampling, WTA-CRS, Liu et al. 2023): see nn::WeightGradient.
struct RowSamplingConfig {
  static constexpr const char* kNone = "none";
  std::vector<std::string> target_modules = {kNone};  ///< as LoraConfig's; kNone alone: none
  double ratio = 0.3;

  bool operator==(const RowSamplingConfig&) const = default;

  bool is_on() const { return target_modules != std::vector<std::string>{kNone}; }
  /// Throws InputError naming keys of `section` for targets that the model does not have, or beside
  /// which `lora` has no adapter.
  void check(const ModelConfig& config, const std::optional<LoraConfig>& lora,
             const std::string& section) const;
  /// FLOPs that are saved of a token's backward, of what weights' gradients take.
  double saved_flops(const ModelConfig& config, const std::optional<LoraConfig>& lora) const;
};

}  // namespace longspan::model
