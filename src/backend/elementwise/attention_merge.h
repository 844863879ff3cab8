#pragma once

#include <cmath>

#include "longspan/base/host_device.h"

// Merging two parts of a softmax, the same on every device.
namespace longspan::backend {

/// What the attention of one query over some keys (`whole`) and over others (`block`) weigh, from
/// the log-sum-exp of each; that of `block` is finite, that of `whole` -infinity when it stands for
/// no keys.
template <typename Real>
struct MergeWeights {
  LONGSPAN_HOST_DEVICE MergeWeights(Real whole, Real block) {
    const Real highest = whole < block ? block : whole;
    old_weight = std::exp(whole - highest);  // 0 when there were no keys so far
    new_weight = std::exp(block - highest);
    inverse = Real(1) / (old_weight + new_weight);
    lse = highest + std::log(old_weight + new_weight);
  }

  LONGSPAN_HOST_DEVICE Real merge(Real whole, Real block) const {
    return (old_weight * whole + new_weight * block) * inverse;
  }

  Real old_weight, new_weight, inverse;
  Real lse;  ///< of both parts
};

}  // namespace longspan::backend
