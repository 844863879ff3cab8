#include "backend/elementwise/int8.h"

#include <algorithm>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

template <typename T>
CodeRange<Compute<T>> range_of(const T* from, Index block) {
  Compute<T> least = load(from[0]);
  Compute<T> greatest = least;
  Compute<T> taint = 0;
#pragma omp simd reduction(min : least) reduction(max : greatest) reduction(+ : taint)
  for (Index i = 0; i < block; ++i) {
    const Compute<T> value = load(from[i]);
    least = value < least ? value : least;
    greatest = value > greatest ? value : greatest;
    taint += taint_of(value);
  }
  return CodeRange<Compute<T>>::between(least, greatest, taint);
}

/// To the nearest step.
struct ToNearest {
  static constexpr Index kWork = 2;  // an element's, beside a copy's

  template <typename T>
  void code(std::uint8_t* to, const T* from, const Coder<Compute<T>>& coder, Index /*row*/,
            Index /*column*/, Index block) const {
    for (Index i = 0; i < block; ++i) to[i] = coder.code(load(from[i]));
  }
};

/// To a step around it, by the draws of its elements.
struct AtRandom {
  static constexpr Index kWork = 8;

  const std::int32_t* numbers;
  base::RandomStream stream;
  Index columns;
  Index first_column;

  template <typename T>
  void code(std::uint8_t* to, const T* from, const Coder<Compute<T>>& coder, Index row,
            Index column, Index block) const {
    const Index first = first_column + column;  // of the whole row
    for (Index i = 0; i < block;) {
      const base::PhiloxBlock draws = code_block(stream, numbers[row], columns, first + i);
      const Index end = std::min(block, i + kCodeNeighbours - (first + i) % kCodeNeighbours);
      for (; i < end; ++i) to[i] = coder.code(load(from[i]), code_draw(draws, first + i));
    }
  }
};

template <typename T, typename Rounding>
void quantize_blocks(const Tensor& codes, const Tensor& ranges, const Tensor& x,
                     const Rounding& rounding) {
  using Real = Compute<T>;
  const Index blocks = ranges.size(1) / 2;
  const Index block = x.size(1) / blocks;
  if (block == 0) return;
  parallel_for(x.size(0) * blocks, Rounding::kWork * block, [&](Index number) {
    const Index row = number / blocks;
    const Index column = number % blocks * block;
    const T* from = x.data<T>() + row * x.row_stride() + column;
    auto* to = codes.data<std::uint8_t>() + row * codes.row_stride() + column;
    const CodeRange<Real> range = range_of(from, block);
    rounding.code(to, from, Coder<Real>(range), row, column, block);
    Real* pair = ranges.data<Real>() + row * ranges.row_stride() + 2 * (number % blocks);
    pair[0] = range.low;
    pair[1] = range.step;
  });
}

}  // namespace

void CpuBackend::quantize(const Tensor& codes, const Tensor& ranges, const Tensor& x) {
  const Operation operation(*this, "quantize", codes);
  check_codes("quantize", "x", x, codes, ranges);
  dispatch_float("quantize", "x", x,
                 [&]<typename T>() { quantize_blocks<T>(codes, ranges, x, ToNearest{}); });
}

void CpuBackend::quantize_at_random(const Tensor& codes, const Tensor& ranges, const Tensor& x,
                                    const CodeRounding& rounding) {
  const Operation operation(*this, "quantize_at_random", codes);
  check_random_codes(x, codes, ranges, rounding);
  const AtRandom at_random{rounding.numbers.data<std::int32_t>(), rounding.stream, rounding.columns,
                           rounding.first_column};
  dispatch_float("quantize_at_random", "x", x,
                 [&]<typename T>() { quantize_blocks<T>(codes, ranges, x, at_random); });
}

void CpuBackend::dequantize(const Tensor& out, const Tensor& codes, const Tensor& ranges) {
  const Operation operation(*this, "dequantize", out);
  check_codes("dequantize", "out", out, codes, ranges);
  const Index blocks = ranges.size(1) / 2;
  const Index block = out.size(1) / blocks;
  dispatch_float("dequantize", "out", out, [&]<typename T>() {
    using Real = Compute<T>;
    parallel_for(out.size(0) * blocks, block, [&](Index number) {
      const Index row = number / blocks;
      const Index column = number % blocks * block;
      const Real* pair = ranges.data<Real>() + row * ranges.row_stride() + 2 * (number % blocks);
      const CodeRange<Real> range{pair[0], pair[1]};
      const auto* from = codes.data<std::uint8_t>() + row * codes.row_stride() + column;
      T* to = out.data<T>() + row * out.row_stride() + column;
#pragma omp simd
      for (Index i = 0; i < block; ++i) to[i] = round_to<T>(range.value(from[i]));
    });
  });
}

}  // namespace longspan::backend::cpu
