#pragma once

#include "tests/backend/kernel_fixture.h"

// What the tests of layer norm share.
namespace longspan::backend::testing {

inline constexpr float kLayerNormEpsilon = 1e-5F;

/// Inputs and outputs of one layer norm. With `far`, rows are far from 0: their mean is 1e4, some
/// thousand times their deviation (as far as the dtype tells them apart).
struct LayerNorm {
  LayerNorm(DType dtype, Index tokens, Index hidden, Index padding, bool far = false)
      : x(dtype, {tokens, hidden}, padding),
        weight(dtype, {hidden}),
        bias(dtype, {hidden}),
        out(dtype, {tokens, hidden}, padding),
        mean(wide(dtype), {tokens}),
        rstd(wide(dtype), {tokens}),
        dy(dtype, {tokens, hidden}, padding),
        residual(dtype, {tokens, hidden}, padding),
        dx(dtype, {tokens, hidden}, padding),
        dweight(wide(dtype), {hidden}),
        dbias(wide(dtype), {hidden}) {
    x.random(1);
    weight.random(2);
    bias.random(3);
    dy.random(4);
    residual.random(5);
    dweight.random(6);
    dbias.random(7);
    if (!far) return;
    const double deviation = dtype == DType::kBFloat16 ? 300.0 : 1.0;
    for (Index i = 0; i < x.elements(); ++i) x.set(i, kFar + deviation * x.get(i));
    distance = kFar / deviation;
  }

  /// Of what is formed from distances to the mean, in units of the row's deviation.
  double tolerance() const { return (32.0 + 16.0 * distance) * unit_roundoff(wide(dtype())); }
  DType dtype() const { return x.tensor().dtype(); }

  static constexpr double kFar = 1e4;
  Array x, weight, bias, out, mean, rstd, dy, residual, dx, dweight, dbias;
  double distance = 0.0;  ///< of the mean from 0, in deviations
};

}  // namespace longspan::backend::testing
