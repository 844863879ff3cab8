#pragma once

#include <cstddef>
#include <oneapi/dnnl/dnnl.hpp>

#include "longspan/backend/backend.h"

namespace longspan::backend::cpu {

/// Everything a oneDNN matmul primitive depends on: sizes, row strides in elements, dtypes
/// (float32 or bfloat16), options.
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

/// The description of the primitive, with scratch memory left to the caller.
dnnl::matmul::primitive_desc describe_matmul(const MatmulKey& key, const dnnl::engine& engine);

}  // namespace longspan::backend::cpu
