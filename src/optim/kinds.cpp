#include "longspan/optim/kinds.h"

#include "longspan/base/error.h"
#include "longspan/optim/adamw.h"

namespace longspan::optim {

const std::vector<OptimizerKind>& optimizer_kinds() {
  static const std::vector<OptimizerKind> kKinds = {
      {.name = "adamw",
       .words = "Adam with decoupled weight decay",
       .make = [](const OptimizerConfig& config, nn::ParameterSet& parameters,
                  backend::Backend& backend, backend::Backend* host) -> std::unique_ptr<Optimizer> {
         return std::make_unique<AdamW>(config.adam, parameters, backend, host);
       }},
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
  return optimizer_kind(config.name).make(config, parameters, backend, host);
}

}  // namespace longspan::optim
