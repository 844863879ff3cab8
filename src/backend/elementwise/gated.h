#pragma once

#include "longspan/base/host_device.h"

// The gate g of a gated MLP goes through g s(g), where s is a sigmoid: of g itself (silu), or of
// what gelu.h says (GELU). Each backend forms s with its own exponential.
namespace longspan::backend {

/// A gate and what its product and gradients are made of. `slope` is the derivative of the
/// sigmoid's argument at `bounded`, which stands for the gate where s is 0 or 1: 1 and the gate
/// itself for silu.
template <typename Real>
struct Gate {
  Real value;
  Real s;
  Real bounded;
  Real slope;
};

/// The one expression of the product, so that forward and backward agree bit for bit.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real gated(const Gate<Real>& gate, Real up) {
  return gate.value * gate.s * up;
}

template <typename Real>
LONGSPAN_HOST_DEVICE inline Real gate_gradient(Real dout, const Gate<Real>& gate, Real up) {
  return dout * up * gate.s * (Real(1) + gate.bounded * gate.slope * (Real(1) - gate.s));
}

template <typename Real>
LONGSPAN_HOST_DEVICE inline Real up_gradient(Real dout, const Gate<Real>& gate) {
  return dout * gate.value * gate.s;
}

}  // namespace longspan::backend
