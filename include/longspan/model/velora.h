#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "longspan/model/lora.h"
#include "longspan/model/model_config.h"

namespace longspan::model {

/// Gradients of matrices, or of adapters' As beside these, compressed along one direction of their
/// inputs (VeLoRA, Miles et al. 2024): see nn::WeightGradient.
struct VeloraConfig {
  static constexpr const char* kNone = "none";
  std::vector<std::string> target_modules = {kNone};  ///< as LoraConfig's; kNone alone: none
  std::int64_t groups = 32;
  double scale = 1.0;

  bool operator==(const VeloraConfig&) const = default;

  bool is_on() const { return target_modules != std::vector<std::string>{kNone}; }
  /// Throws InputError naming keys of `section` for targets that the model does not have, or beside
  /// which `lora` has no adapter, or whose inputs the groups do not divide.
  void check(const ModelConfig& config, const std::optional<LoraConfig>& lora,
             const std::string& section) const;
  /// FLOPs that are saved of a token's backward: of the weights' gradients, or where `lora` says
  /// so of its As'.
  double saved_flops(const ModelConfig& config, const std::optional<LoraConfig>& lora) const;
};

}  // namespace longspan::model
