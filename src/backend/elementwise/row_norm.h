#pragma once

#include <cmath>

#include "longspan/base/random.h"

// The norm of a row by way of its largest size, so that squares neither under- nor overflow.
namespace longspan::backend {

/// What an element adds to the sum of a row whose largest size is `most`. Of a row without a size
/// beside 0 the sizes are added instead, which shows what is not a number.
template <typename Real>
LONGSPAN_HOST_DEVICE Real norm_term(Real value, Real most) {
  const Real part = most > 0 ? value / most : value;
  return most > 0 ? part * part : std::abs(value);
}

template <typename Real>
LONGSPAN_HOST_DEVICE Real norm_of(Real sum, Real most) {
  return most > 0 ? most * std::sqrt(sum) : sum;
}

}  // namespace longspan::backend
