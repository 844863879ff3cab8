#include "backend/cpu/gelu.h"

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

template <typename T>
void forward_run(T* out, const T* x, Index length) {
  using Real = Compute<T>;
#pragma omp simd
  for (Index i = 0; i < length; ++i) {
    const Real value = load(x[i]);
    out[i] = round_to<T>(value * gelu_sigmoid(gelu_bounded(value)));
  }
}

/// Reads index i before it writes it, so that results may replace inputs.
template <typename T, bool kWithOut>
void backward_run(T* dx, T* out, const T* dout, const T* x, Index length) {
  using Real = Compute<T>;
#pragma omp simd
  for (Index i = 0; i < length; ++i) {
    const Real value = load(x[i]);
    const Real upstream = load(dout[i]);
    const Real bounded = gelu_bounded(value);
    const Real s = gelu_sigmoid(bounded);
    const Real slope = gelu_slope(bounded);
    if constexpr (kWithOut) out[i] = round_to<T>(value * s);
    dx[i] = round_to<T>(gelu_gradient(upstream, bounded, s, slope));
  }
}

template <typename T>
void backward(const Tensor& dx, const Tensor& out, const Tensor& dout, const Tensor& x) {
  const bool dense =
      dx.is_dense() && (!out.defined() || out.is_dense()) && dout.is_dense() && x.is_dense();
  for_each_span(x, dense, [&](const Span& span) {
    T* gradient = span.of(dx.data<T>(), dx);
    const T* upstream = span.of(dout.data<T>(), dout);
    const T* from = span.of(x.data<T>(), x);
    if (out.defined()) {
      backward_run<T, true>(gradient, span.of(out.data<T>(), out), upstream, from, span.length);
    } else {
      backward_run<T, false>(gradient, nullptr, upstream, from, span.length);
    }
  });
}

}  // namespace

void CpuBackend::gelu_forward(const Tensor& out, const Tensor& x) {
  const Operation operation(*this, "gelu_forward", out);
  check_gelu_forward(out, x);
  dispatch_float("gelu_forward", "x", x, [&]<typename T>() {
    for_each_span(x, out.is_dense() && x.is_dense(), [&](const Span& span) {
      forward_run(span.of(out.data<T>(), out), span.of<const T>(x.data<T>(), x), span.length);
    });
  });
}

void CpuBackend::gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout,
                               const Tensor& x) {
  const Operation operation(*this, "gelu_backward", dx);
  check_gelu_backward(dx, out, dout, x);
  dispatch_float("gelu_backward", "x", x, [&]<typename T>() { backward<T>(dx, out, dout, x); });
}

}  // namespace longspan::backend::cpu
