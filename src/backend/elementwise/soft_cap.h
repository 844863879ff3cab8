#pragma once

#include "longspan/base/host_device.h"

// Soft caps (Gemma 2): z = cap tanh(x / cap). Each backend forms the tangent with its own
// exponential.
namespace longspan::backend {

/// dz/dx from tanh(x / cap).
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real soft_cap_slope(Real tangent) {
  return Real(1) - tangent * tangent;
}

}  // namespace longspan::backend
