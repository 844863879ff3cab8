#pragma once

#include "longspan/base/host_device.h"

// RMS norm (Zhang & Sennrich 2019) and layer norm (Ba et al. 2016), element by element; the sums
// over a row are each backend's own. Layer norm is RMS norm of what is centred first, with a bias
// added; so all of these serve both.
namespace longspan::backend {

/// x without the mean of its row, which RMS norm leaves where it is.
template <bool kCentred, typename Real>
LONGSPAN_HOST_DEVICE inline Real centred(Real x, Real mean) {
  if constexpr (kCentred) return x - mean;
  return x;
}

template <typename Real>
LONGSPAN_HOST_DEVICE inline Real normalised(Real x, Real rstd, Real weight) {
  return x * rstd * weight;
}

/// One element's share of the product of which norm_slope is made: the gradient of the normalised
/// row times the row.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real norm_product(Real dy, Real weight, Real x) {
  return dy * weight * x;
}

/// What x is multiplied with in the gradient of its row, of the sum of norm_product.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real norm_slope(Real product, Real hidden, Real rstd) {
  return product / hidden * rstd * rstd;
}

/// d(loss)/dx through the norm: rstd (g - x rstd^2 mean(g x) - offset) with g = dy weight; `offset`
/// is mean(g) where the row was centred, else 0.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real norm_gradient(Real dy, Real weight, Real x, Real rstd, Real slope,
                                               Real offset) {
  return rstd * (dy * weight - x * slope - offset);
}

/// What one element adds to dweight.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real norm_weight_gradient(Real dy, Real x, Real rstd) {
  return dy * (x * rstd);
}

}  // namespace longspan::backend
