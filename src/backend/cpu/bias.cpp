#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/row_sums.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {

void CpuBackend::add_bias(const Tensor& out, const Tensor& bias) {
  const Operation operation(*this, "add_bias", out);
  check_add_bias(out, bias);
  dispatch_float("add_bias", "out", out, [&]<typename T>() {
    const Index width = out.size(1);
    const T* terms = bias.data<T>();
    parallel_for(out.size(0), width, [&](Index row) {
      T* to = out.data<T>() + row * out.row_stride();
#pragma omp simd
      for (Index j = 0; j < width; ++j) to[j] = round_to<T>(load(to[j]) + load(terms[j]));
    });
  });
}

void CpuBackend::bias_backward(const Tensor& dbias, const Tensor& dy) {
  const Operation operation(*this, "bias_backward", dbias);
  check_bias_backward(dbias, dy);
  dispatch_float("bias_backward", "dy", dy, [&]<typename T>() {
    using Real = Compute<T>;
    const Index width = dy.size(1);
    const RowSums<Real> sums(dy.size(0), width, [&](Index row, Real* share) {
      const T* from = dy.data<T>() + row * dy.row_stride();
#pragma omp simd
      for (Index j = 0; j < width; ++j) share[j] += load(from[j]);
    });
    sums.add_to(dbias.data<Real>(), 0, width);
  });
}

}  // namespace longspan::backend::cpu
