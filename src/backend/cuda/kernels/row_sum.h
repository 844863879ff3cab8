#pragma once

#include <cuda_platform.h>

namespace longspan::backend::cuda {

inline constexpr int kLanes = 32;
inline constexpr unsigned kAllLanes = 0xffffffffU;

/// Sum over the lanes of a warp, the same bits in each.
template <typename Real>
__device__ Real warp_sum(Real value) {
  LONGSPAN_UNROLL
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, lanes);
  }
  return value;
}

/// Sum over the threads that share threadIdx.y: whole warps, the row's. All threads of the block
/// must call it. `partial` is shared memory of one Real for each warp of the block; it may be used
/// again after the next barrier.
template <typename Real>
__device__ Real row_sum(Real value, Real* partial) {
  value = warp_sum(value);
  const unsigned warps = blockDim.x / kLanes;
  if (warps == 1) return value;
  Real* of_row = partial + threadIdx.y * warps;
  if (threadIdx.x % kLanes == 0) of_row[threadIdx.x / kLanes] = value;
  __syncthreads();
  Real sum = 0;
  for (unsigned warp = 0; warp < warps; ++warp) sum += of_row[warp];
  return sum;
}

}  // namespace longspan::backend::cuda
