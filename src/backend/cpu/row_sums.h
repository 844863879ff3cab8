#pragma once

#include <algorithm>
#include <memory>

#include "backend/cpu/parallel.h"

// Sums over rows, a column each, of which the gradients of parameters are made.
namespace longspan::backend::cpu {

/// Sums in an order that the number of rows alone decides, whatever the number of threads: each of
/// at most 64 blocks of rows sums its share, and the shares are added in order.
template <typename Real>
class RowSums {
 public:
  /// add_row(row, share) adds what the row gives to share[width].
  template <typename AddRow>
  RowSums(Index rows, Index width, const AddRow& add_row) : width_(width) {
    const Index rows_each = std::max(kFewestRows, divide_up(rows, kMostBlocks));
    blocks_ = divide_up(rows, rows_each);
    shares_ = std::make_unique_for_overwrite<Real[]>(static_cast<std::size_t>(blocks_ * width));
    parallel_for(blocks_, rows_each * width, [&](Index block) {
      Real* share = shares_.get() + block * width;
      std::fill_n(share, width, Real(0));
      const Index end = std::min(rows, (block + 1) * rows_each);
      for (Index row = block * rows_each; row < end; ++row) add_row(row, share);
    });
  }

  /// total[i] += the sum of column first + i, for i in [0, count).
  void add_to(Real* total, Index first, Index count) const {
    constexpr Index kColumns = 512;
    parallel_for(divide_up(count, kColumns), kColumns * blocks_, [&](Index slice) {
      const Index begin = slice * kColumns;
      const Index end = std::min(count, begin + kColumns);
      for (Index block = 0; block < blocks_; ++block) {
        const Real* share = shares_.get() + block * width_ + first;
#pragma omp simd
        for (Index i = begin; i < end; ++i) total[i] += share[i];
      }
    });
  }

 private:
  static constexpr Index kMostBlocks = 64;
  static constexpr Index kFewestRows = 16;

  Index width_;
  Index blocks_;
  std::unique_ptr<Real[]> shares_;  // [blocks, width]
};

}  // namespace longspan::backend::cpu
