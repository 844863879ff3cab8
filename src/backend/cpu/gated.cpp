#include "backend/elementwise/gated.h"

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/gelu.h"
#include "backend/cpu/parallel.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

template <GateActivation kActivation, typename Real>
inline Gate<Real> gate_of(Real gate) {
  if constexpr (kActivation == GateActivation::kSilu) {
    return {gate, sigmoid(gate), gate, Real(1)};
  } else {
    const Real bounded = gelu_bounded(gate);
    return {gate, gelu_sigmoid(bounded), bounded, gelu_slope(bounded)};
  }
}

template <GateActivation kActivation, typename T>
void forward_row(T* out, const T* gate_row, const T* up_row, Index inner) {
  using Real = Compute<T>;
#pragma omp simd
  for (Index i = 0; i < inner; ++i) {
    const Gate<Real> gate = gate_of<kActivation, Real>(load(gate_row[i]));
    out[i] = round_to<T>(gated<Real>(gate, load(up_row[i])));
  }
}

/// Reads index i before it writes it, so that the gradients may replace the inputs.
template <GateActivation kActivation, bool kWithOut, typename T>
void backward_row(T* dgate, T* dup, T* out, const T* dout, const T* gate_row, const T* up_row,
                  Index inner) {
  using Real = Compute<T>;
#pragma omp simd
  for (Index i = 0; i < inner; ++i) {
    const Gate<Real> gate = gate_of<kActivation, Real>(load(gate_row[i]));
    const Real up = load(up_row[i]);
    const Real upstream = load(dout[i]);
    if constexpr (kWithOut) out[i] = round_to<T>(gated<Real>(gate, up));
    dgate[i] = round_to<T>(gate_gradient<Real>(upstream, gate, up));
    dup[i] = round_to<T>(up_gradient<Real>(upstream, gate));
  }
}

/// An exponential and a division cost about this many simple elements.
constexpr Index kCostOfElement = 4;

template <GateActivation kActivation, typename T>
void forward(const Tensor& out, const Tensor& gate_up) {
  const Index inner = out.size(1);
  parallel_for(gate_up.size(0), inner * kCostOfElement, [&](Index t) {
    const T* inputs = gate_up.data<T>() + t * gate_up.row_stride();
    forward_row<kActivation>(out.data<T>() + t * out.row_stride(), inputs, inputs + inner, inner);
  });
}

template <GateActivation kActivation, typename T>
void backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
              const Tensor& gate_up) {
  const Index inner = dout.size(1);
  parallel_for(gate_up.size(0), inner * kCostOfElement, [&](Index t) {
    const T* inputs = gate_up.data<T>() + t * gate_up.row_stride();
    const T* upstream = dout.data<T>() + t * dout.row_stride();
    T* gradients = dgate_up.data<T>() + t * dgate_up.row_stride();
    if (out.defined()) {
      backward_row<kActivation, true>(gradients, gradients + inner,
                                      out.data<T>() + t * out.row_stride(), upstream, inputs,
                                      inputs + inner, inner);
    } else {
      backward_row<kActivation, false, T>(gradients, gradients + inner, nullptr, upstream, inputs,
                                          inputs + inner, inner);
    }
  });
}

/// Calls visit.template operator()<activation, element type>().
template <typename Visit>
void dispatch(const char* operation, GateActivation activation, const Tensor& gate_up,
              const Visit& visit) {
  dispatch_float(operation, "gate_up", gate_up, [&]<typename T>() {
    switch (activation) {
      case GateActivation::kSilu:
        return visit.template operator()<GateActivation::kSilu, T>();
      case GateActivation::kGeluTanh:
        return visit.template operator()<GateActivation::kGeluTanh, T>();
    }
  });
}

}  // namespace

void CpuBackend::gated_forward(const Tensor& out, const Tensor& gate_up,
                               GateActivation activation) {
  const Operation operation(*this, "gated_forward", out);
  check_gated_forward(out, gate_up);
  dispatch("gated_forward", activation, gate_up, [&]<GateActivation kActivation, typename T>() {
    forward<kActivation, T>(out, gate_up);
  });
}

void CpuBackend::gated_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                                const Tensor& gate_up, GateActivation activation) {
  const Operation operation(*this, "gated_backward", dgate_up);
  check_gated_backward(dgate_up, out, dout, gate_up);
  dispatch("gated_backward", activation, gate_up, [&]<GateActivation kActivation, typename T>() {
    backward<kActivation, T>(dgate_up, out, dout, gate_up);
  });
}

}  // namespace longspan::backend::cpu
