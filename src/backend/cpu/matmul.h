#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "backend/arena.h"
#include "longspan/backend/backend.h"

namespace longspan::backend::cpu {

/// Matmul by oneDNN for float32 and bfloat16. A primitive is made once for each distinct
/// (sizes, strides, dtypes, options) and kept; its scratch memory comes from the arena for the
/// length of the call.
class Matmul {
 public:
  explicit Matmul(Arena& arena);
  ~Matmul();

  /// The contract of Backend::matmul, float64 included.
  void run(const Tensor& out, const Tensor& a, const Tensor& b, const MatmulOptions& options);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// What a product takes from the arena while it runs: a copy of a transposed operand, and oneDNN's
/// scratch.
struct MatmulWorkspace {
  std::size_t transposed = 0;
  std::size_t scratch = 0;
};

/// The workspace of products without running them.
class MatmulWorkspaces {
 public:
  MatmulWorkspaces();
  ~MatmulWorkspaces();

  MatmulWorkspace of(const Tensor& out, const Tensor& a, const Tensor& b,
                     const MatmulOptions& options);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// Whether this processor computes products of this dtype; `why_not` (may be null) says what is
/// missing.
bool supports(base::DType dtype, std::string* why_not);

/// The float64 product, for oracles: plain loops.
void matmul_float64(const Tensor& out, const Tensor& a, const Tensor& b,
                    const MatmulOptions& options);

}  // namespace longspan::backend::cpu
