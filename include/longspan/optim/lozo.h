#pragma once

#include <cstdint>

#include "longspan/optim/mezo.h"

namespace longspan::optim {

struct LozoConfig {
  backend::Index rank = 2;
  std::int64_t interval = 50;  ///< steps that a basis is kept for
};

/// LOZO (Chen et al. 2024, "Enhancing zeroth-order fine-tuning for language models with low-rank
/// structures"): MeZO whose directions of matrices have a low rank. That of a matrix [m, n] is
/// U V^T, U [m, rank] anew in every step, V [n, rank] in steps that are multiples of `interval`,
/// both standard normal; within an interval the updates of a matrix so lie in one subspace. The
/// slope g times U V^T is `rank` times the gradient in the mean, so that the update is
/// -lr g U V^T / rank: the published formula, whose division the published program leaves out.
///
/// Matrices (embeddings, too) with a side shorter than `rank`, norms and biases have MeZO's
/// directions. U and V are stored nowhere, as little as MeZO's z; checkpoints hold no more.
class Lozo : public Mezo {
 public:
  /// As Mezo.
  Lozo(const AdamConfig& decay, const PerturbationConfig& config, const LozoConfig& lozo,
       nn::ParameterSet& parameters, backend::Backend& backend);

 private:
  bool is_low_rank(const nn::Parameter& parameter) const;
  void write_direction(const backend::Tensor& out, const nn::OwnRange& range, backend::Index begin,
                       backend::Index end, double factor) const override;
  double correction(const nn::Parameter& parameter) const override;

  LozoConfig lozo_;
};

}  // namespace longspan::optim
