#pragma once

#include "longspan/base/host_device.h"

// `s` is sigmoid(gate), which each backend forms with its own exponential.
namespace longspan::backend {

/// silu(gate) up: the one expression of the product, so that forward and backward agree bit for
/// bit.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real gated(Real gate, Real s, Real up) {
  return gate * s * up;
}

template <typename Real>
LONGSPAN_HOST_DEVICE inline Real gate_gradient(Real dout, Real gate, Real s, Real up) {
  return dout * up * s * (Real(1) + gate * (Real(1) - s));
}

template <typename Real>
LONGSPAN_HOST_DEVICE inline Real up_gradient(Real dout, Real gate, Real s) {
  return dout * gate * s;
}

}  // namespace longspan::backend
