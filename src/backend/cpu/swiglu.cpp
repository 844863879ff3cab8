#include "backend/checks.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"

namespace longspan::backend::cpu {
namespace {

/// The one expression of the product: forward and backward agree bit for bit.
template <typename Real>
Real gated(Real gate, Real gate_sigmoid, Real up) {
  return gate * gate_sigmoid * up;
}

template <typename T>
void forward_row(T* out, const T* gate_row, const T* up_row, Index inner) {
  using Real = Compute<T>;
#pragma omp simd
  for (Index i = 0; i < inner; ++i) {
    const Real gate = load(gate_row[i]);
    out[i] = round_to<T>(gated<Real>(gate, sigmoid(gate), load(up_row[i])));
  }
}

/// With s = sigmoid(gate): dgate = dout up s (1 + gate (1 - s)), dup = dout gate s. Reads index i
/// before it writes it, so that the gradients may replace the inputs.
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
    dgate[i] = round_to<T>(upstream * up * s * (Real(1) + gate * (Real(1) - s)));
    dup[i] = round_to<T>(upstream * gate * s);
  }
}

void check(const char* operation, const Tensor& gate_up, const char* name, const Tensor& product) {
  expect_rank(operation, "gate_up", gate_up, 2);
  if (gate_up.size(1) % 2 != 0) {
    contract_broken(operation, "gate_up", gate_up, "an even number of columns");
  }
  expect(operation, name, product, gate_up.dtype(), {gate_up.size(0), gate_up.size(1) / 2});
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

void swiglu_forward(const Tensor& out, const Tensor& gate_up) {
  check("swiglu_forward", gate_up, "out", out);
  dispatch_float("swiglu_forward", "gate_up", gate_up, [&]<typename T>() {
    const Index inner = out.size(1);
    parallel_for(gate_up.size(0), inner * kCostOfElement, [&](Index t) {
      const T* inputs = gate_up.data<T>() + t * gate_up.row_stride();
      forward_row(out.data<T>() + t * out.row_stride(), inputs, inputs + inner, inner);
    });
  });
}

void swiglu_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                     const Tensor& gate_up) {
  check("swiglu_backward", gate_up, "dout", dout);
  expect("swiglu_backward", "dgate_up", dgate_up, gate_up.dtype(), gate_up.shape());
  if (out.defined()) expect("swiglu_backward", "out", out, dout.dtype(), dout.shape());
  dispatch_float("swiglu_backward", "gate_up", gate_up,
                 [&]<typename T>() { backward<T>(dgate_up, out, dout, gate_up); });
}

}  // namespace longspan::backend::cpu
