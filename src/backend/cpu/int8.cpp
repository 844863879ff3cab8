#include "backend/elementwise/int8.h"

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

}  // namespace

void CpuBackend::quantize(const Tensor& codes, const Tensor& ranges, const Tensor& x) {
  const Operation operation(*this, "quantize", codes);
  check_codes("quantize", "x", x, codes, ranges);
  const Index blocks = ranges.size(1) / 2;
  const Index block = x.size(1) / blocks;
  if (block == 0) return;
  dispatch_float("quantize", "x", x, [&]<typename T>() {
    using Real = Compute<T>;
    parallel_for(x.size(0) * blocks, 2 * block, [&](Index number) {
      const Index row = number / blocks;
      const Index column = number % blocks * block;
      const T* from = x.data<T>() + row * x.row_stride() + column;
      auto* to = codes.data<std::uint8_t>() + row * codes.row_stride() + column;
      const CodeRange<Real> range = range_of(from, block);
      const Coder<Real> coder(range);
      for (Index i = 0; i < block; ++i) to[i] = coder.code(load(from[i]));
      Real* pair = ranges.data<Real>() + row * ranges.row_stride() + 2 * (number % blocks);
      pair[0] = range.low;
      pair[1] = range.step;
    });
  });
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
