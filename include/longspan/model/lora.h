#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longspan/model/model_config.h"

namespace longspan::model {

/// Low-rank adapters beside matrices of a model that is not trained itself (Hu et al. 2021): see
/// nn::Lora.
struct LoraConfig {
  std::int64_t rank = 16;
  double alpha = 32.0;
  double dropout = 0.0;
  /// See nn::ModuleNames.
  std::vector<std::string> target_modules = {"all-linear"};
  /// alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023, "rsLoRA").
  bool rank_stabilized = false;
  /// Whether the base's matrices of blocks are kept as NF4 (Dettmers et al. 2023, "QLoRA"), which
  /// is not the adapter's own: no file of one says it.
  bool packs_base = false;

  bool operator==(const LoraConfig&) const = default;

  /// What multiplies B A.
  double scale() const;
};

/// What adapter_config.json says: adapters in PEFT's format, and what they were trained beside.
struct AdapterConfig {
  LoraConfig lora;
  std::string base;  ///< base_model_name_or_path; may be empty

  /// The text that PEFT reads as a LoraConfig of causal language modelling. `model` is the base's.
  std::string to_json(const ModelConfig& model) const;
  /// Reads such a text, of ours or PEFT's. What we cannot do or do not know (other kinds of
  /// adapters, ranks of single layers, modules trained whole, ...) throws InputError naming key and
  /// `file`.
  static AdapterConfig from_json(const std::string& text, const std::string& file);
};

/// A matrix of a model's blocks.
struct LinearModule {
  std::string name;  ///< in the model, whole
  std::int64_t inputs = 0;
  std::int64_t outputs = 0;
};
/// Those of all blocks that the targets name, in order.
std::vector<LinearModule> targeted_modules(const ModelConfig& config,
                                           const std::vector<std::string>& targets);
/// The same of what is trained: with `lora` only those beside which there are adapters.
std::vector<LinearModule> trained_modules(const ModelConfig& config,
                                          const std::vector<std::string>& targets,
                                          const std::optional<LoraConfig>& lora);
/// As check_targets, and for a target beside which `lora` has no adapter.
void check_trained_targets(const std::vector<std::string>& targets, const ModelConfig& config,
                           const std::optional<LoraConfig>& lora, const std::string& key);
/// Throws InputError naming `key` ("adapter.target_modules") for a target that the model has no
/// matrix of, with those that there are.
void check_targets(const std::vector<std::string>& targets, const ModelConfig& config,
                   const std::string& key);
/// Names of the matrices of a model's blocks, as targets call them: "q_proj", in order.
std::vector<std::string> linear_modules(const ModelConfig& config);

/// Whether the family stores its matrices inputs first, which PEFT calls fan_in_fan_out.
bool stores_inputs_first(const ModelConfig& config);

/// Model FLOPs as ModelConfig::training_flops counts them, where adapters alone are trained: of the
/// base's matrices 4 per weight and token, since their own gradients are not formed; 6 of theirs.
double adapter_training_flops(const ModelConfig& config, const LoraConfig& lora,
                              const std::vector<std::int32_t>& cu_seqlens);

/// Numbers of all adapters.
std::int64_t adapter_parameters(const ModelConfig& config, const LoraConfig& lora);

}  // namespace longspan::model
