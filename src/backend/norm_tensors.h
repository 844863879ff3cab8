#pragma once

#include "longspan/backend/backend.h"

// The operands of RMS norm and layer norm, as Backend has them; what a call has not is undefined.
namespace longspan::backend {

/// Of a forward; mean and bias are layer norm's, a and b those of which x is made first, if it is.
/// Layer norm has an epsilon and no weight_offset.
struct NormTensors {
  Tensor out{}, mean{}, rstd{}, x{}, a{}, b{}, weight{}, bias{};
  RmsNormOptions options{};
};

/// Of a backward; dbias and mean are layer norm's. Without a dweight there is no dbias either.
struct NormGradientTensors {
  Tensor dx{}, dweight{}, dbias{}, dy{}, residual{}, mean{}, rstd{}, x{}, weight{};
  RmsNormOptions options{};
};

/// How many parts of a token's row are normalised each for itself: heads, or one.
inline Index heads_of(const Tensor& x) { return x.rank() == 3 ? x.size(1) : 1; }
/// Elements that are normalised together.
inline Index width_of(const Tensor& x) { return x.size(x.rank() - 1); }

}  // namespace longspan::backend
