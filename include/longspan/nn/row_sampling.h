#pragma once

#include <cstdint>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"

namespace longspan::nn {

/// What the sampled gradients of a set share (see WeightGradient): for each group of matrices the
/// factor by which a token's size |x| |dy| becomes the probability that it is drawn. It is found
/// from the sizes of the step before, summed over all ranks, so that about `ratio` of the tokens
/// that have a size are drawn; in the first step all of them are. A gradient's mean over the draws
/// is the exact one whatever the factor is, since that is known before anything is drawn.
class RowSampling {
 public:
  /// One more group, before `allocate`; returns its number.
  int declare(double ratio);
  int count() const { return static_cast<int>(groups_.size()); }
  void allocate(backend::Backend& backend);

  /// How a group draws in this step.
  backend::RowDraw draw(int number, std::uint64_t seed, std::uint64_t step) const;
  void add(int number, const backend::DrawnRows& drawn);
  /// At the end of a step's backward, by all ranks: the factors of the next.
  void settle(comm::Communicator& ranks);

  /// For checkpoints: a float64 of each group [count], as it is now; `take` reads what was written
  /// there.
  backend::Tensor factors() const;
  void take();

  /// The factor after a step that drew so: that with which these sizes would have given `ratio`
  /// of their tokens, as far as sums tell. Infinity for a ratio of 1.
  static double next(double factor, const backend::DrawnRows& sums, double ratio);

 private:
  struct Group {
    double ratio = 1;
    double factor = 0;
    backend::DrawnRows sums;
  };

  backend::Backend* backend_ = nullptr;
  backend::Tensor factors_;
  std::vector<Group> groups_;
};

}  // namespace longspan::nn
