#pragma once

#include "backend/cuda/kernels/elementwise.h"
#include "backend/cuda/kernels/row_sum.h"
#include "backend/cuda_scratch.h"

// Sums over rows, a column each, in two stages: every block of rows sums its shares, which are then
// added in the order of the blocks. Within a share element k of all packs lies together, so that
// threads side by side touch neighbours; each element is only ever touched by one thread.
namespace longspan::backend::cuda {

/// Of this thread's packs of a row: `vectors` shares that lie `columns` apart are made zero.
template <int kCount, typename Real>
__device__ void clear_shares(Real* shares, const RowShares& layout, Index hidden) {
  const Index all_packs = divide_up(hidden, kCount);
  for (Index vector = 0; vector < layout.vectors; ++vector) {
    for (Index pack = threadIdx.x; pack < all_packs; pack += blockDim.x) {
      for (int k = 0; k < kCount; ++k) shares[vector * layout.columns + k * all_packs + pack] = 0;
    }
  }
}

/// The same are copied.
template <int kCount, typename Real>
__device__ void copy_shares(Real* to, const Real* from, const RowShares& layout, Index hidden) {
  const Index all_packs = divide_up(hidden, kCount);
  for (Index vector = 0; vector < layout.vectors; ++vector) {
    for (Index pack = threadIdx.x; pack < all_packs; pack += blockDim.x) {
      for (int k = 0; k < kCount; ++k) {
        const Index at = vector * layout.columns + k * all_packs + pack;
        to[at] = from[at];
      }
    }
  }
}

/// blockIdx.y is the vector, 0 for `first`. Of blockDim.y threads each adds every blockDim.y-th
/// block's share, then one adds up theirs.
template <typename Real>
__global__ void __launch_bounds__(kLanes* kLanes)
    add_shares(Real* first, Real* second, const Real* shares, RowShares layout, Index hidden,
               int pack) {
  Real* sums = dynamic_shared_memory<Real>();  // [blockDim.y, kLanes]
  const Index all_packs = divide_up(hidden, pack);
  const Index column = static_cast<Index>(blockIdx.x) * kLanes + threadIdx.x;
  const Real* share = shares + blockIdx.y * layout.columns + column;
  Real sum = 0;
  if (column < all_packs * pack) {
    LONGSPAN_UNROLL_BY(8)
    for (Index block = threadIdx.y; block < layout.blocks; block += blockDim.y) {
      sum += share[block * layout.pitch()];
    }
  }
  sums[threadIdx.y * kLanes + threadIdx.x] = sum;
  __syncthreads();
  const Index h = column % all_packs * pack + column / all_packs;
  if (threadIdx.y > 0 || column >= all_packs * pack || h >= hidden) return;
  Real total = 0;
  for (unsigned i = 0; i < blockDim.y; ++i) total += sums[i * kLanes + threadIdx.x];
  (blockIdx.y == 0 ? first : second)[h] += total;
}

/// The second stage; `pack` is the kCount of the first one. With one vector `second` is null.
template <typename Real>
void launch_add_shares(const Queue& queue, Real* first, Real* second, const Real* shares,
                       const RowShares& layout, Index hidden, int pack) {
  const Index down = std::min<Index>(kLanes, power_of_two(layout.blocks));
  const dim3 grid(static_cast<unsigned>(divide_up(layout.columns, kLanes)),
                  static_cast<unsigned>(layout.vectors));
  LONGSPAN_LAUNCH(add_shares<Real>, grid, dim3(kLanes, static_cast<unsigned>(down)),
                  static_cast<std::size_t>(kLanes * down) * sizeof(Real), queue.stream, first,
                  second, shares, layout, hidden, pack);
}

}  // namespace longspan::backend::cuda
