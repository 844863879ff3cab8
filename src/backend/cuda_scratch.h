#pragma once

#include <cstddef>

#include "longspan/backend/tensor.h"

// Scratch memory of the cuda backend's own kernels. It depends on shapes and dtypes alone, never on
// the device, and is known in every build: `longspan plan` counts it.
namespace longspan::backend {

/// How rms_norm_backward divides its rows: each block of rows sums its share of dweight, and the
/// shares are added in order.
struct NormShares {
  Index rows_each;  ///< rows of a block
  Index blocks;
  Index columns;  ///< hidden, rounded up so that every dtype's packs fit

  Index elements() const { return blocks * columns; }
};

NormShares rms_norm_backward_shares(Index tokens, Index hidden);

/// Bytes that rms_norm_backward takes for x [tokens, hidden] of this dtype.
std::size_t rms_norm_backward_scratch_bytes(base::DType dtype, Index tokens, Index hidden);

}  // namespace longspan::backend
