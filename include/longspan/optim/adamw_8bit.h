#pragma once

#include <vector>

#include "longspan/optim/optimizer.h"

namespace longspan::optim {

/// AdamW with moments of 8 bits (Dettmers et al. 2022), in blocks of backend::kMomentBlock elements
/// counted from each parameter's first, wherever ranks cut it: "moment1" and "moment2" are uint8
/// codes, "moment1_scale" and "moment2_scale" a float32 for each block (see Backend::adamw_8bit).
/// Parameters of fewer than kLeast elements, which are norms and biases mostly, have float32
/// moments.
class Adamw8Bit : public Optimizer {
 public:
  static constexpr backend::Index kLeast = 4096;

  /// As Optimizer; moments are zero. Own ranges must begin at whole blocks (nn::Placement::cut).
  /// Not for float64.
  Adamw8Bit(const AdamConfig& config, nn::ParameterSet& parameters, backend::Backend& backend,
            backend::Backend* host = nullptr);

 private:
  void update(const Piece& piece, const backend::AdamWOptions& options) override;
  void append_states(std::vector<StateTensor>& states) const override;

  OwnState codes1_;
  OwnState scales1_;
  OwnState codes2_;
  OwnState scales2_;
  OwnState small1_;
  OwnState small2_;
};

}  // namespace longspan::optim
