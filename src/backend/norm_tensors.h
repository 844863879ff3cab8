#pragma once

#include "longspan/backend/tensor.h"

// The operands of RMS norm and layer norm, as Backend has them; what a call has not is undefined.
namespace longspan::backend {

/// Of a forward; mean and bias are layer norm's, a and b those of which x is made first, if it is.
struct NormTensors {
  Tensor out{}, mean{}, rstd{}, x{}, a{}, b{}, weight{}, bias{};
};

/// Of a backward; dbias and mean are layer norm's.
struct NormGradientTensors {
  Tensor dx{}, dweight{}, dbias{}, dy{}, residual{}, mean{}, rstd{}, x{}, weight{};
};

}  // namespace longspan::backend
