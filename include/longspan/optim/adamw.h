#pragma once

#include <vector>

#include "longspan/optim/optimizer.h"

namespace longspan::optim {

/// AdamW (Loshchilov & Hutter) with float32 (float64) moments: "moment1", "moment2".
class AdamW : public Optimizer {
 public:
  /// As Optimizer; moments are zero.
  AdamW(const AdamConfig& config, nn::ParameterSet& parameters, backend::Backend& backend,
        backend::Backend* host = nullptr);

 private:
  void update(const Piece& piece, const backend::AdamWOptions& options) override;
  void append_states(std::vector<StateTensor>& states) const override;

  OwnState moment1_;
  OwnState moment2_;
};

}  // namespace longspan::optim
