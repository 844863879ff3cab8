#pragma once

#include "backend/cpu/vector_math.h"
#include "backend/elementwise/gelu.h"

// GELU's sigmoid and its argument's slope (elementwise/gelu.h), of a bounded x. Only what is
// inlined becomes part of a vector loop.
namespace longspan::backend::cpu {

template <typename Real>
inline Real gelu_sigmoid(Real bounded) {
  using Constants = GeluConstants<Real>;
  return sigmoid(bounded * multiply_add(bounded * bounded, Constants::kCubic, Constants::kLinear));
}

template <typename Real>
inline Real gelu_slope(Real bounded) {
  using Constants = GeluConstants<Real>;
  return multiply_add(bounded * bounded, 3 * Constants::kCubic, Constants::kLinear);
}

}  // namespace longspan::backend::cpu
