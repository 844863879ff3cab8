#pragma once

#include <algorithm>
#include <initializer_list>

#include "backend/cuda/kernels/packs.h"
#include "backend/cuda/queue.h"

// The kernel of all operations in which each element stands alone. A Body has
//   kCount                       elements of a pack
//   Loaded                       what is read for one pack
//   load(row, column, left)      reads it
//   store(row, column, left, loaded)
// Everything is read before anything is written, so that several packs are on their way at once
// even though outputs may be inputs.
namespace longspan::backend::cuda {

inline constexpr int kElementwiseThreads = 256;
inline constexpr int kPacksInFlight = 2;

template <typename Body>
__global__ void __launch_bounds__(kElementwiseThreads)
    for_each_pack(Index rows, Index columns, Body body) {
  constexpr int kCount = Body::kCount;
  const Index step = static_cast<Index>(blockDim.x) * kCount;
  const Index first = blockIdx.x * step * kPacksInFlight + static_cast<Index>(threadIdx.x) * kCount;
  const Index rows_at_once = static_cast<Index>(gridDim.y) * blockDim.y;
  for (Index row = static_cast<Index>(blockIdx.y) * blockDim.y + threadIdx.y; row < rows;
       row += rows_at_once) {
    typename Body::Loaded loaded[kPacksInFlight] = {};
    LONGSPAN_UNROLL
    for (int i = 0; i < kPacksInFlight; ++i) {
      const Index column = first + i * step;
      if (column < columns) loaded[i] = body.load(row, column, columns - column);
    }
    LONGSPAN_UNROLL
    for (int i = 0; i < kPacksInFlight; ++i) {
      const Index column = first + i * step;
      if (column < columns) body.store(row, column, columns - column, loaded[i]);
    }
  }
}

/// Covers rows x columns with packs; nothing is launched where there is nothing.
template <typename Body>
void launch_packs(const Queue& queue, Index rows, Index columns, const Body& body) {
  if (rows == 0 || columns == 0) return;
  constexpr Index kMostBlocksOfRows = 65535;
  const Index packs = divide_up(columns, Body::kCount);
  // Short rows share a block.
  const Index across =
      std::min<Index>(kElementwiseThreads, power_of_two(divide_up(packs, kPacksInFlight)));
  const Index down = std::min(kElementwiseThreads / across, power_of_two(rows));
  const dim3 block(static_cast<unsigned>(across), static_cast<unsigned>(down));
  const dim3 grid(static_cast<unsigned>(divide_up(packs, across * kPacksInFlight)),
                  static_cast<unsigned>(std::min(divide_up(rows, down), kMostBlocksOfRows)));
  LONGSPAN_LAUNCH(for_each_pack<Body>, grid, block, 0, queue.stream, rows, columns, body);
}

/// Tensors of one shape as rows and columns: one row where none has gaps.
struct Extents {
  Index rows;
  Index columns;

  Extents(const Tensor& like, bool dense)
      : rows(dense ? 1 : like.size(0)), columns(dense ? like.elements() : like.row_elements()) {}

  /// Whether packs of these tensors lie at aligned addresses.
  bool aligned(std::initializer_list<const Tensor*> tensors) const {
    return std::all_of(tensors.begin(), tensors.end(), [this](const Tensor* tensor) {
      return rows == 1 ? vector_aligned(*tensor) : packs_aligned(*tensor);
    });
  }
};

/// Calls visit.template operator()<kAligned>().
template <typename Visit>
void with_alignment(bool aligned, const Visit& visit) {
  if (aligned) return visit.template operator()<true>();
  visit.template operator()<false>();
}

}  // namespace longspan::backend::cuda
