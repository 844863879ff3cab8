#include "backend/elementwise/swiglu.h"
#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

template <typename T>
void forward_row(T* out, const T* gate_row, const T* up_row, Index inner) {
  using Real = Compute<T>;
#pragma omp simd
  for (Index i = 0; i < inner; ++i) {
    const Real gate = load(gate_row[i]);
    out[i] = round_to<T>(gated<Real>(gate, sigmoid(gate), load(up_row[i])));
  }
}

/// Reads index i before it writes it, so that the gradients may replace the inputs.
template <typename T, bool kWithOut>
void backward_row(T* dgate, T* dup, T* out, const T* dout, const T* gate_row, const T* up_row,
                  Index inner) {
  using Real = Compute<T>;
#pragma omp simd
  for (Index i = 0; i < inner; ++i) {
    const Real gate = load(gate_row[i]);
    const Real up = load(up_row[i]);
    const Real upstream = load(dout[i]);
    const Real s = sigmoid(gate);
    if constexpr (kWithOut) out[i] = round_to<T>(gated<Real>(gate, s, up));
    dgate[i] = round_to<T>(gate_gradient(upstream, gate, s, up));
    dup[i] = round_to<T>(up_gradient(upstream, gate, s));
  }
}

/// An exponential and a division cost about this many simple elements.
constexpr Index kCostOfElement = 4;

template <typename T>
void backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
              const Tensor& gate_up) {
  const Index inner = dout.size(1);
  parallel_for(gate_up.size(0), inner * kCostOfElement, [&](Index t) {
    const T* inputs = gate_up.data<T>() + t * gate_up.row_stride();
    const T* upstream = dout.data<T>() + t * dout.row_stride();
    T* gradients = dgate_up.data<T>() + t * dgate_up.row_stride();
    if (out.defined()) {
      backward_row<T, true>(gradients, gradients + inner, out.data<T>() + t * out.row_stride(),
                            upstream, inputs, inputs + inner, inner);
    } else {
      backward_row<T, false>(gradients, gradients + inner, nullptr, upstream, inputs,
                             inputs + inner, inner);
    }
  });
}

}  // namespace

void CpuBackend::swiglu_forward(const Tensor& out, const Tensor& gate_up) {
  const Operation operation(*this, "swiglu_forward", out);
  check_swiglu_forward(out, gate_up);
  dispatch_float("swiglu_forward", "gate_up", gate_up, [&]<typename T>() {
    const Index inner = out.size(1);
    parallel_for(gate_up.size(0), inner * kCostOfElement, [&](Index t) {
      const T* inputs = gate_up.data<T>() + t * gate_up.row_stride();
      forward_row(out.data<T>() + t * out.row_stride(), inputs, inputs + inner, inner);
    });
  });
}

void CpuBackend::swiglu_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                                 const Tensor& gate_up) {
  const Operation operation(*this, "swiglu_backward", dgate_up);
  check_swiglu_backward(dgate_up, out, dout, gate_up);
  dispatch_float("swiglu_backward", "gate_up", gate_up,
                 [&]<typename T>() { backward<T>(dgate_up, out, dout, gate_up); });
}

}  // namespace longspan::backend::cpu
