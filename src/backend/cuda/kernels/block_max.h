#pragma once

#include "backend/cuda/kernels/device.h"

namespace longspan::backend::cuda {

/// The largest of a block's values, none of which is negative, in every thread. `of_warps`, shared,
/// an element for each warp, may be used again after the next barrier.
template <int kThreads>
__device__ float block_max(float value, float* of_warps) {
  LONGSPAN_UNROLL
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
    value = max(value, __shfl_xor_sync(kAllLanes, value, lanes));
  }
  if (threadIdx.x % kLanes == 0) of_warps[threadIdx.x / kLanes] = value;
  __syncthreads();
  for (int warp = 0; warp < kThreads / kLanes; ++warp) value = max(value, of_warps[warp]);
  return value;
}

}  // namespace longspan::backend::cuda
