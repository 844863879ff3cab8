#pragma once

#include <cmath>

#include "backend/cuda/kernels/sigmoid.h"
#include "backend/elementwise/compute.h"
#include "backend/elementwise/gelu.h"

// GELU's sigmoid and its argument's slope (elementwise/gelu.h), of a bounded x.
namespace longspan::backend::cuda {

/// For elements stored as T.
template <typename T>
__device__ Compute<T> gelu_sigmoid(Compute<T> bounded) {
  using Constants = GeluConstants<Compute<T>>;
  return sigmoid<T>(bounded * std::fma(bounded * bounded, Constants::kCubic, Constants::kLinear));
}

template <typename Real>
__device__ Real gelu_slope(Real bounded) {
  using Constants = GeluConstants<Real>;
  return std::fma(bounded * bounded, 3 * Constants::kCubic, Constants::kLinear);
}

}  // namespace longspan::backend::cuda
