#include "backend/matmul_key.h"

#include <fmt/format.h>

#include "longspan/base/error.h"

namespace longspan::backend {

using base::DType;
using base::InternalError;

std::size_t MatmulKeyHash::operator()(const MatmulKey& key) const {
  const Index flags = (key.options.transpose_a ? 1 : 0) | (key.options.transpose_b ? 2 : 0) |
                      (key.options.accumulate ? 4 : 0);
  std::size_t hash = 0;
  for (const Index part : {key.m, key.n, key.k, key.stride_a, key.stride_b, key.stride_out,
                           static_cast<Index>(key.in), static_cast<Index>(key.out), flags}) {
    hash = (hash ^ (hash >> 31U)) * 0x9E3779B97F4A7C15ULL + static_cast<std::size_t>(part);
  }
  return hash ^ (hash >> 29U);
}

MatmulKey matmul_key(const Tensor& out, const Tensor& a, const Tensor& b,
                     const MatmulOptions& options) {
  const bool ranks = out.rank() == 2 && a.rank() == 2 && b.rank() == 2;
  if (ranks) {
    const Index m = a.size(options.transpose_a ? 1 : 0);
    const Index k = a.size(options.transpose_a ? 0 : 1);
    const Index k_of_b = b.size(options.transpose_b ? 1 : 0);
    const Index n = b.size(options.transpose_b ? 0 : 1);
    const bool dtypes = a.dtype() == b.dtype() &&
                        (out.dtype() == a.dtype() ||
                         (a.dtype() == DType::kBFloat16 && out.dtype() == DType::kFloat32));
    if (k == k_of_b && out.size(0) == m && out.size(1) == n && dtypes) {
      return {m,         n,           k,      a.row_stride(), b.row_stride(), out.row_stride(),
              a.dtype(), out.dtype(), options};
    }
  }
  throw InternalError(
      fmt::format("matmul: out {} {} from a {} {}{} and b {} {}{}", base::name_of(out.dtype()),
                  out.shape().to_string(), base::name_of(a.dtype()), a.shape().to_string(),
                  options.transpose_a ? " transposed" : "", base::name_of(b.dtype()),
                  b.shape().to_string(), options.transpose_b ? " transposed" : ""));
}

}  // namespace longspan::backend
