#pragma once

#include <vector>

#include "longspan/optim/optimizer.h"

namespace longspan::optim {

struct GaloreConfig {
  backend::Index rank = 128;    ///< of the projected gradients
  std::int64_t interval = 200;  ///< updates between projections
  double scale = 0.25;          ///< of the projected matrices' updates
};

/// GaLore (Zhao et al. 2024): AdamW whose moments are those of projected gradients. Of a matrix's
/// gradient G [m, n] the `rank` principal singular vectors of the shorter side, anew every
/// `interval` updates, are rows of a projection P: Adam runs on P G (or G P^T), and what it would
/// subtract, times `scale`, is taken back by P^T. Decay is AdamW's, of the whole matrix.
///
/// Unlike the published program's, moments are not read in a basis that is no longer theirs: when
/// P is replaced by P', with Q = P' P^T, the first becomes Q times itself and the second (Q o Q)
/// times itself, as if the gradient's old coordinates were independent of each other.
///
/// Matrices with a side shorter than `rank`, norms, biases and embeddings have AdamW. States:
/// "projection" [rank, shorter side], "moment1" and "moment2" of the projected shape.
class Galore : public Optimizer {
 public:
  /// Matrices must be whole: throws InternalError when ranks share them. No host: states are small.
  Galore(const AdamConfig& config, const GaloreConfig& galore, nn::ParameterSet& parameters,
         backend::Backend& backend);

 private:
  /// What a projected matrix has.
  struct Projected {
    bool is_left = true;         ///< P G; else G P^T
    backend::Tensor projection;  ///< [rank, shorter side]
    backend::Tensor moment1;     ///< [rank, n] or [m, rank]
    backend::Tensor moment2;
  };

  bool is_projected(const nn::Parameter& parameter) const;
  Projected make_projected(const nn::Parameter& parameter) const;
  void renew(Projected& matrix, const backend::Tensor& gradient) const;
  void turn_moments(const Projected& matrix, const backend::Tensor& turn) const;
  backend::Tensor scratch(const backend::Shape& shape) const;
  void update(const Piece& piece, const backend::AdamWOptions& options) override;
  void append_states(std::vector<StateTensor>& states) const override;

  GaloreConfig galore_;
  std::vector<Projected> projected_;  ///< by parameter; without a projection where it has AdamW
  OwnState moment1_;
  OwnState moment2_;
};

}  // namespace longspan::optim
