#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "longspan/optim/optimizer.h"

namespace longspan::optim {

/// AdamW (Loshchilov & Hutter) with float32 (float64) moments: "moment1", "moment2". Or with
/// bfloat16 ones, each rounded up or down at random so that it is right in the mean (Gupta et al.
/// 2015): by seed, update, parameter and element alone, wherever ranks cut it. Of compressed
/// gradients the moments are compressed, too, in which nothing is lost (see
/// Backend::adamw_compressed); not with bfloat16 ones.
class AdamW : public Optimizer {
 public:
  /// As Optimizer; moments are zero. `rounding_seed`: bfloat16 moments; not for float64.
  AdamW(const AdamConfig& config, nn::ParameterSet& parameters, backend::Backend& backend,
        backend::Backend* host = nullptr,
        std::optional<std::uint64_t> rounding_seed = std::nullopt);

 private:
  void update(const Piece& piece, const backend::AdamWOptions& options) override;
  void append_states(std::vector<StateTensor>& states) const override;

  std::optional<std::uint64_t> rounding_seed_;
  OwnState moment1_;
  OwnState moment2_;
};

}  // namespace longspan::optim
