#include "backend/elementwise/int8.h"

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/cuda/kernels/row_sum.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kLanes;

/// Rows of numbers and their codes in blocks, of which a warp takes one after another.
template <typename T>
struct Blocks {
  Rows<const T> x;
  Rows<std::uint8_t> codes;
  Rows<Compute<T>> ranges;
  Index count;    ///< of all rows
  Index per_row;  ///< blocks
  Index block;    ///< elements
};

template <typename T>
struct Extremes {
  Compute<T> least;
  Compute<T> greatest;
  Compute<T> taint;

  __device__ void add(const Extremes& other) {
    least = other.least < least ? other.least : least;
    greatest = other.greatest > greatest ? other.greatest : greatest;
    taint += other.taint;
  }
};

/// Of all lanes, in each.
template <typename T>
__device__ Extremes<T> of_warp(Extremes<T> own) {
  LONGSPAN_UNROLL
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
    own.add({__shfl_xor_sync(kAllLanes, own.least, lanes),
             __shfl_xor_sync(kAllLanes, own.greatest, lanes),
             __shfl_xor_sync(kAllLanes, own.taint, lanes)});
  }
  return own;
}

/// To the nearest step. All lanes of a warp code a block.
struct ToNearest {
  template <typename T>
  __device__ void code(std::uint8_t* to, const T* from, const Coder<Compute<T>>& coder,
                       Index /*row*/, Index /*column*/, Index block, Index lane) const {
    for (Index i = lane; i < block; i += kLanes) to[i] = coder.code(load(from[i]));
  }
};

/// To a step around it, by the draws of its elements: a lane takes all that share a draw's block,
/// for that costs more than reading neighbours by one lane, out of a cache.
struct AtRandom {
  const std::int32_t* numbers;
  base::RandomStream stream;
  Index columns;
  Index first_column;

  template <typename T>
  __device__ void code(std::uint8_t* to, const T* from, const Coder<Compute<T>>& coder, Index row,
                       Index column, Index block, Index lane) const {
    const Index first = first_column + column;     // of the whole row
    const Index before = first % kCodeNeighbours;  // of the first draw's, not in this block
    for (Index begin = lane * kCodeNeighbours - before; begin < block;
         begin += kLanes * kCodeNeighbours) {
      const Index start = begin < 0 ? 0 : begin;
      const base::PhiloxBlock draws = code_block(stream, numbers[row], columns, first + start);
      LONGSPAN_UNROLL
      for (Index k = 0; k < kCodeNeighbours; ++k) {
        const Index i = begin + k;
        if (i < 0 || i >= block) continue;
        to[i] = coder.code(load(from[i]), code_draw(draws, k));
      }
    }
  }
};

template <typename T, typename Rounding>
__global__ void __launch_bounds__(kThreads) quantize_kernel(Blocks<T> with, Rounding rounding) {
  using Real = Compute<T>;
  const Index lane = threadIdx.x % kLanes;
  const Index warps = static_cast<Index>(gridDim.x) * kWarps;
  for (Index number = static_cast<Index>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
       number < with.count; number += warps) {
    const Index row = number / with.per_row;
    const Index in_row = number % with.per_row;
    const T* from = with.x.at(row, in_row * with.block);
    const Real first = load(from[0]);
    Extremes<T> own{first, first, Real(0)};
    for (Index i = lane; i < with.block; i += kLanes) {
      const Real value = load(from[i]);
      own.add({value, value, taint_of(value)});
    }
    const Extremes<T> all = of_warp(own);
    const auto range = CodeRange<Real>::between(all.least, all.greatest, all.taint);
    const Coder<Real> coder(range);
    const Index column = in_row * with.block;
    rounding.code(with.codes.at(row, column), from, coder, row, column, with.block, lane);
    if (lane == 0) {
      Real* pair = with.ranges.at(row, 2 * in_row);
      pair[0] = range.low;
      pair[1] = range.step;
    }
  }
}

template <typename T, typename Rounding>
void quantize_rows(const Queue& queue, const Tensor& codes, const Tensor& ranges, const Tensor& x,
                   const Rounding& rounding) {
  const Index per_row = ranges.size(1) / 2;
  const Blocks<T> with{{x.data<T>(), x.row_stride()},
                       {codes.data<std::uint8_t>(), codes.row_stride()},
                       {ranges.data<Compute<T>>(), ranges.row_stride()},
                       x.size(0) * per_row,
                       per_row,
                       x.size(1) / per_row};
  if (x.elements() == 0) return;
  constexpr Index kMostGroups = 65535;
  const auto groups = static_cast<unsigned>(std::min(divide_up(with.count, kWarps), kMostGroups));
  LONGSPAN_LAUNCH((quantize_kernel<T, Rounding>), groups, kThreads, 0, queue.stream, with,
                  rounding);
}

/// Each element alone; its range is read again for every pack, from a cache.
template <typename T, bool kAligned>
struct Dequantize {
  static constexpr int kCount = kPack<std::uint8_t>;
  struct Loaded {
    Pack<std::uint8_t, kCount> codes;
  };

  Rows<T> out;
  Rows<const std::uint8_t> codes;
  Rows<const Compute<T>> ranges;
  Index block;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return {load_pack<kAligned, kCount>(codes.at(row, column), left)};
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> values = {};
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      if (k >= left) continue;
      const Compute<T>* pair = ranges.at(row, 2 * ((column + k) / block));
      const CodeRange<Compute<T>> range{pair[0], pair[1]};
      values.values[k] = round_to<T>(range.value(loaded.codes.values[k]));
    }
    store_pack<kAligned>(out.at(row, column), values, left);
  }
};

}  // namespace

void CudaKernels::quantize(const Tensor& codes, const Tensor& ranges, const Tensor& x) {
  const Operation operation(*this, "quantize", codes);
  check_codes("quantize", "x", x, codes, ranges);
  dispatch_float("quantize", "x", x,
                 [&]<typename T>() { quantize_rows<T>(queue_, codes, ranges, x, ToNearest{}); });
}

void CudaKernels::quantize_at_random(const Tensor& codes, const Tensor& ranges, const Tensor& x,
                                     const CodeRounding& rounding) {
  const Operation operation(*this, "quantize_at_random", codes);
  check_random_codes(x, codes, ranges, rounding);
  const AtRandom at_random{rounding.numbers.data<std::int32_t>(), rounding.stream, rounding.columns,
                           rounding.first_column};
  dispatch_float("quantize_at_random", "x", x,
                 [&]<typename T>() { quantize_rows<T>(queue_, codes, ranges, x, at_random); });
}

void CudaKernels::dequantize(const Tensor& out, const Tensor& codes, const Tensor& ranges) {
  const Operation operation(*this, "dequantize", out);
  check_codes("dequantize", "out", out, codes, ranges);
  dispatch_float("dequantize", "out", out, [&]<typename T>() {
    with_alignment(packs_aligned(codes) && packs_aligned(out), [&]<bool kAligned>() {
      const Dequantize<T, kAligned> body{{out.data<T>(), out.row_stride()},
                                         {codes.data<std::uint8_t>(), codes.row_stride()},
                                         {ranges.data<Compute<T>>(), ranges.row_stride()},
                                         out.size(1) / (ranges.size(1) / 2)};
      launch_packs(queue_, out.size(0), out.size(1), body);
    });
  });
}

}  // namespace longspan::backend::cuda
