#pragma once

#include <type_traits>

#include "longspan/base/host_device.h"

// Arithmetic of single elements, of which every backend makes its kernels.
namespace longspan::backend {

/// The type a kernel computes in: double for double, float for float and bfloat16.
template <typename T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// 0 of a number that is finite, else NaN: added to a block's scale it tells what a maximum hides.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real taint_of(Real value) {
  return value - value;
}

}  // namespace longspan::backend
