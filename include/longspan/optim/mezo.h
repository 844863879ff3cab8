#pragma once

#include <cstdint>
#include <vector>

#include "longspan/optim/optimizer.h"

namespace longspan::optim {

/// How a slope is measured.
struct PerturbationConfig {
  double epsilon = 1e-3;  ///< how far to each side, in units of the direction
  std::uint64_t seed = 0;
};

/// MeZO (Malladi et al. 2023, "Fine-tuning language models with just forward passes"): zeroth-order
/// SGD. Of a loss L the slope along a random direction z is measured at two points beside the
/// weights w (Spall 1992),
///
///   g = (L(w + epsilon z) - L(w - epsilon z)) / (2 epsilon),
///
/// and w -= lr g z, of which g z is the gradient in the mean: no backward, no gradients. Who trains
/// chooses a direction, moves the weights to both sides, evaluates there, moves back, and calls
/// `step` with the slope as `gradient_scale`. Weight decay is decoupled, as AdamW's.
///
/// z is standard normal and stored nowhere: its elements are those of random streams, by seed,
/// step, parameter and element alone, wherever ranks cut parameters. Nothing but the weights, in
/// bfloat16 their master, is in checkpoints.
///
/// Unlike the published program, which adds and subtracts z in place and so lets roundings gather
/// in the weights, points are made of a master copy of own elements, and moving back is exact: that
/// copy, 4 bytes an own element (8 in float64), is all the memory it takes besides chunks of z.
class Mezo : public Optimizer {
 public:
  /// `decay`: of this what concerns weight decay; there are no moments. The parameters need no
  /// gradients. All must outlive the optimizer.
  Mezo(const AdamConfig& decay, const PerturbationConfig& config, nn::ParameterSet& parameters,
       backend::Backend& backend);

  double epsilon() const { return config_.epsilon; }
  /// From now on the direction is that of this step of the training, in [0, 2^32).
  void choose_direction(std::int64_t step) { step_ = step; }
  /// Own weights = w + factor z, rounded to their dtype, wherever they were. Other ranks are to be
  /// given them (nn::ParameterSet::gather_weights), here and below.
  void move(double factor);
  /// Own weights = w again, the same bits as before any `move`.
  void move_back();

 protected:
  /// Writes factor times elements [begin, end) of the direction, counted from the own range's first
  /// and at most kChunk of them, to `out`, float32 (float64), rank 1.
  virtual void write_direction(const backend::Tensor& out, const nn::OwnRange& range,
                               backend::Index begin, backend::Index end, double factor) const;
  /// What the slope times the direction is multiplied with to be the gradient in the mean.
  virtual double correction(const nn::Parameter& parameter) const;

  /// Of the step whose direction is in use.
  base::RandomStream stream(base::Purpose purpose, std::int64_t step, int number) const;
  std::int64_t chosen_step() const { return step_; }
  backend::Tensor scratch(const backend::Shape& shape) const;

  /// Elements of a direction that there are at a time.
  static constexpr backend::Index kChunk = backend::Index{1} << 20;

 private:
  backend::Tensor make_chunk() const;
  void update(const Piece& piece, const backend::AdamWOptions& options) override;
  void append_states(std::vector<StateTensor>& states) const override;

  PerturbationConfig config_;
  std::int64_t step_ = 0;
};

}  // namespace longspan::optim
