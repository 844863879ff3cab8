#pragma once

#include <string>

#include "longspan/base/dtype.h"

namespace longspan::train {

/// The dtype of weights and activations for "fp32", "bf16" or "fp64".
inline base::DType dtype_of_precision(const std::string& precision) {
  if (precision == "bf16") return base::DType::kBFloat16;
  return precision == "fp64" ? base::DType::kFloat64 : base::DType::kFloat32;
}

}  // namespace longspan::train
