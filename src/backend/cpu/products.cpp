// Products element by element.
#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {

void CpuBackend::add_product(const Tensor& out, const Tensor& x, const Tensor& y,
                             const Tensor& gate) {
  const Operation operation(*this, "add_product", out);
  check_add_product(out, x, y, gate);
  dispatch_float("add_product", "out", out, [&]<typename T>() {
    const Index width = out.size(1);
    const T* factors = gate.data<T>();
    parallel_for(out.size(0), width, [&](Index row) {
      T* to = out.data<T>() + row * out.row_stride();
      const T* from = y.data<T>() + row * y.row_stride();
      if (!x.defined()) {
#pragma omp simd
        for (Index j = 0; j < width; ++j) to[j] = round_to<T>(load(factors[j]) * load(from[j]));
        return;
      }
      const T* sum = x.data<T>() + row * x.row_stride();
#pragma omp simd
      for (Index j = 0; j < width; ++j) {
        to[j] = round_to<T>(multiply_add(load(factors[j]), load(from[j]), load(sum[j])));
      }
    });
  });
}

void CpuBackend::multiply(const Tensor& out, const Tensor& a, const Tensor& b) {
  const Operation operation(*this, "multiply", out);
  check_multiply(out, a, b);
  dispatch_float("multiply", "out", out, [&]<typename T>() {
    const bool dense = out.is_dense() && a.is_dense() && b.is_dense();
    for_each_span(out, dense, [&](const Span& span) {
      T* to = span.of(out.data<T>(), out);
      const T* left = span.of(a.data<T>(), a);
      const T* right = span.of(b.data<T>(), b);
#pragma omp simd
      for (Index i = 0; i < span.length; ++i) to[i] = round_to<T>(load(left[i]) * load(right[i]));
    });
  });
}

}  // namespace longspan::backend::cpu
