#pragma once

#include "longspan/base/host_device.h"

// GELU (Hendrycks & Gimpel 2016) in its form with tanh, without it: 0.5 (1 + tanh(u)) is
// sigmoid(2 u), so gelu(x) = x s with
//   s = sigmoid(x GeluConstants::kLinear + x^3 kCubic),
// which is accurate around 0, where 1 + tanh would cancel. Each backend forms s, with its own
// exponential and with products and sums that are merged in all of its kernels alike, so that
// forward and backward agree bit for bit.
namespace longspan::backend {

template <typename Real>
struct GeluConstants {
  static constexpr Real kLinear = static_cast<Real>(1.5957691216057308);  ///< 2 sqrt(2 / pi)
  static constexpr Real kCubic = static_cast<Real>(0.07135481627260025);  ///< 0.044715 kLinear
};

/// x where s is neither 0 nor 1; beyond, a number as good: its cube is finite, and so is what the
/// gradient multiplies with 0. NaN stays.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real gelu_bounded(Real x) {
  constexpr Real kBound = 32;  // in float64, 1 - s is 0 above 7.1, and s below -21.3
  x = x < -kBound ? -kBound : x;
  return x > kBound ? kBound : x;
}

/// `slope` is the derivative of the sigmoid's argument at `bounded`.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real gelu_gradient(Real dout, Real bounded, Real s, Real slope) {
  return dout * s * (Real(1) + bounded * slope * (Real(1) - s));
}

}  // namespace longspan::backend
