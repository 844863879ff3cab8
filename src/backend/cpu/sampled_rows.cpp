// Rows that weights' gradients are made of when not all are multiplied.
#include <cmath>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/elementwise/row_norm.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {

void CpuBackend::row_norms(const Tensor& norms, const Tensor& x) {
  const Operation operation(*this, "row_norms", x);
  check_row_norms(norms, x);
  dispatch_float("row_norms", "x", x, [&]<typename T>() {
    using Real = Compute<T>;
    const Index width = x.size(1);
    parallel_for(x.size(0), width, [&](Index row) {
      const T* const from = x.data<T>() + row * x.row_stride();
      Real most = 0;
#pragma omp simd reduction(max : most)
      for (Index j = 0; j < width; ++j) most = std::max(most, std::abs(Real(load(from[j]))));
      Real sum = 0;
#pragma omp simd reduction(+ : sum)
      for (Index j = 0; j < width; ++j) sum += norm_term(Real(load(from[j])), most);
      norms.data<Real>()[row] = norm_of(sum, most);
    });
  });
}

void CpuBackend::scale_rows(const Tensor& out, const Tensor& factors) {
  const Operation operation(*this, "scale_rows", out);
  check_scale_rows(out, factors);
  dispatch_float("scale_rows", "out", out, [&]<typename T>() {
    using Real = Compute<T>;
    const Index width = out.size(1);
    parallel_for(out.size(0), width, [&](Index row) {
      T* const to = out.data<T>() + row * out.row_stride();
      const Real factor = factors.data<Real>()[row];
#pragma omp simd
      for (Index j = 0; j < width; ++j) to[j] = round_to<T>(load(to[j]) * factor);
    });
  });
}

}  // namespace longspan::backend::cpu
