#pragma once

#include "longspan/base/host_device.h"

namespace longspan::backend {

/// Turns the pair (first, second) by the angle of which cosine and sine are given.
template <typename Real>
LONGSPAN_HOST_DEVICE inline void rotate(Real& first, Real& second, Real cosine, Real sine) {
  const Real turned = first * cosine - second * sine;
  second = second * cosine + first * sine;
  first = turned;
}

}  // namespace longspan::backend
