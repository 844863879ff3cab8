#pragma once

#include <cstddef>

#include "longspan/backend/backend.h"

namespace longspan::backend {

/// Everything that a library's choice of how to multiply depends on: sizes, row strides in
/// elements, dtypes, options.
struct MatmulKey {
  Index m = 0, n = 0, k = 0;
  Index stride_a = 0, stride_b = 0, stride_out = 0;
  base::DType in = base::DType::kFloat32;
  base::DType out = base::DType::kFloat32;
  MatmulOptions options;

  bool operator==(const MatmulKey&) const = default;
};

struct MatmulKeyHash {
  std::size_t operator()(const MatmulKey& key) const;
};

/// Of a call that keeps the contract of Backend::matmul; throws InternalError for any other.
MatmulKey matmul_key(const Tensor& out, const Tensor& a, const Tensor& b,
                     const MatmulOptions& options);

}  // namespace longspan::backend
