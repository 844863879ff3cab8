#pragma once

#include "longspan/base/host_device.h"

// Zhang & Sennrich 2019, element by element; the sums over a row are each backend's own.
namespace longspan::backend {

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

/// d(loss)/dx through the norm: rstd (g - x rstd^2 mean(g x)) with g = dy weight.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real norm_gradient(Real dy, Real weight, Real x, Real rstd,
                                               Real slope) {
  return rstd * (dy * weight - x * slope);
}

/// What one element adds to dweight.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real norm_weight_gradient(Real dy, Real x, Real rstd) {
  return dy * (x * rstd);
}

}  // namespace longspan::backend
