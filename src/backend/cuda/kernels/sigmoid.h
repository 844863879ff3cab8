#pragma once

#include <cuda_platform.h>

#include <cmath>

#include "backend/elementwise/compute.h"
#include "longspan/base/bfloat16.h"

namespace longspan::backend::cuda {

/// 1 / (1 + exp(-x)) for elements stored as T. For bfloat16 by the device's short exponential and
/// division: their errors are far below its rounding, and the long ones would cost more than the
/// memory. Additions are written so that no compiler merges them with a product in one kernel and
/// not in another.
template <typename T>
__device__ Compute<T> sigmoid(Compute<T> x) {
  if constexpr (std::is_same_v<T, double>) {
    return 1.0 / __dadd_rn(1.0, std::exp(-x));
  } else if constexpr (std::is_same_v<T, float>) {
    return 1.0F / __fadd_rn(1.0F, std::exp(-x));
  } else {
    return __fdividef(1.0F, __fadd_rn(1.0F, __expf(-x)));
  }
}

}  // namespace longspan::backend::cuda
