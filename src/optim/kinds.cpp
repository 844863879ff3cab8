#include "longspan/optim/kinds.h"

#include <optional>

#include "longspan/base/error.h"
#include "longspan/optim/adamw.h"
#include "longspan/optim/adamw_8bit.h"
#include "longspan/optim/blockllm.h"

namespace longspan::optim {

namespace {

std::unique_ptr<Optimizer> make_adamw(const OptimizerConfig& config, nn::ParameterSet& parameters,
                                      backend::Backend& backend, backend::Backend* host) {
  std::optional<std::uint64_t> seed;
  if (config.rounds_moments) seed = config.seed;
  return std::make_unique<AdamW>(config.adam, parameters, backend, host, seed);
}

std::unique_ptr<Optimizer> make_adamw_8bit(const OptimizerConfig& config,
                                           nn::ParameterSet& parameters, backend::Backend& backend,
                                           backend::Backend* host) {
  return std::make_unique<Adamw8Bit>(config.adam, parameters, backend, host);
}

std::unique_ptr<Optimizer> make_galore(const OptimizerConfig& config, nn::ParameterSet& parameters,
                                       backend::Backend& backend, backend::Backend* /*host*/) {
  return std::make_unique<Galore>(config.adam, config.galore, parameters, backend);
}

std::unique_ptr<Optimizer> make_blockllm(const OptimizerConfig& config,
                                         nn::ParameterSet& parameters, backend::Backend& backend,
                                         backend::Backend* host) {
  return std::make_unique<BlockLlm>(config.adam, config.blocks, parameters, backend, host);
}

PerturbationConfig perturbation_of(const OptimizerConfig& config) {
  return {.epsilon = config.perturbation, .seed = config.seed};
}

std::unique_ptr<Optimizer> make_mezo(const OptimizerConfig& config, nn::ParameterSet& parameters,
                                     backend::Backend& backend, backend::Backend* /*host*/) {
  return std::make_unique<Mezo>(config.adam, perturbation_of(config), parameters, backend);
}

std::unique_ptr<Optimizer> make_lozo(const OptimizerConfig& config, nn::ParameterSet& parameters,
                                     backend::Backend& backend, backend::Backend* /*host*/) {
  return std::make_unique<Lozo>(config.adam, perturbation_of(config), config.lozo, parameters,
                                backend);
}

}  // namespace

const std::vector<OptimizerKind>& optimizer_kinds() {
  static const std::vector<OptimizerKind> kKinds = {
      {.name = "adamw",
       .words = "Adam with decoupled weight decay",
       .may_round_moments = true,
       .takes_compressed_gradients = true,
       .make = make_adamw},
      {.name = "adamw_8bit",
       .words = "the same with moments of 8 bits, in blocks of 256 with a scale each",
       .cut = backend::kMomentBlock,
       .does_float64 = false,
       .make = make_adamw_8bit},
      {.name = "galore",
       .words = "the same on gradients of matrices that are projected to a low rank",
       .needs_whole_parameters = true,
       .may_be_on_host = false,
       .has_galore_keys = true,
       .make = make_galore},
      {.name = "blockllm",
       .words =
           "\"adamw\" of a part of the parameters, chosen by their gradients from time to time",
       .has_block_keys = true,
       .make = make_blockllm},
      {.name = "mezo",
       .words =
           "no backward and no gradients: down the slope along a random direction, measured by "
           "the loss at two points",
       .may_be_on_host = false,
       .needs_gradients = false,
       .make = make_mezo},
      {.name = "lozo",
       .words = "the same with directions of matrices that have a low rank",
       .may_be_on_host = false,
       .needs_gradients = false,
       .has_lozo_keys = true,
       .make = make_lozo},
  };
  return kKinds;
}

const OptimizerKind& optimizer_kind(const std::string& name) {
  for (const OptimizerKind& kind : optimizer_kinds()) {
    if (name == kind.name) return kind;
  }
  throw base::InternalError("there is no optimizer \"" + name + "\"");
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config,
                                          nn::ParameterSet& parameters, backend::Backend& backend,
                                          backend::Backend* host) {
  const OptimizerKind& kind = optimizer_kind(config.name);
  const bool takes_compressed = kind.takes_compressed_gradients && !config.rounds_moments;
  if (parameters.directions().count() > 0 && !takes_compressed) {
    throw base::InternalError("optimizer \"" + config.name + "\" and compressed gradients");
  }
  return kind.make(config, parameters, backend, host);
}

}  // namespace longspan::optim
