#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "longspan/optim/block_choice.h"
#include "longspan/optim/galore.h"
#include "longspan/optim/lozo.h"
#include "longspan/optim/optimizer.h"

namespace longspan::optim {

/// What a job says of its optimizer.
struct OptimizerConfig {
  std::string name = "adamw";
  AdamConfig adam;
  bool rounds_moments = false;  ///< to bfloat16, at random; of kinds that `may_round_moments`
  std::uint64_t seed = 0;       ///< of what is random
  GaloreConfig galore;
  BlockConfig blocks;
  double perturbation = 1e-3;  ///< PerturbationConfig::epsilon
  LozoConfig lozo;
};

/// A kind of optimizer that a job may name.
struct OptimizerKind {
  const char* name;
  const char* words;  ///< what it is, for help and schema
  /// Own ranges must begin at multiples of so many elements of their parameter: see
  /// nn::Placement::cut.
  backend::Index cut = 1;
  bool may_round_moments = false;
  bool does_float64 = true;
  bool needs_whole_parameters = false;  ///< ranks cannot share one
  bool may_be_on_host = true;
  bool has_galore_keys = false;
  bool has_block_keys = false;
  bool takes_compressed_gradients = false;  ///< where moments are not rounded
  /// Else it is a Mezo, and steps have no backward.
  bool needs_gradients = true;
  bool has_lozo_keys = false;
  /// As Optimizer's constructor.
  std::unique_ptr<Optimizer> (*make)(const OptimizerConfig& config, nn::ParameterSet& parameters,
                                     backend::Backend& backend, backend::Backend* host);
};

/// All there are; the first is the default.
const std::vector<OptimizerKind>& optimizer_kinds();
/// Throws InternalError when there is no such kind.
const OptimizerKind& optimizer_kind(const std::string& name);
/// Of the kind that `config` names. Throws InternalError where that does not work with the
/// parameters' compressed gradients.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config,
                                          nn::ParameterSet& parameters, backend::Backend& backend,
                                          backend::Backend* host = nullptr);

}  // namespace longspan::optim
