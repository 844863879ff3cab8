#pragma once

#include <memory>

#include "backend/cuda/queue.h"
#include "backend/cuda_scratch.h"

namespace longspan::backend::cuda {

/// Matmul by cuBLASLt. bfloat16 and float32 accumulate in float32 (no TF32), float64 in float64.
/// The algorithm is the first that cuBLASLt's heuristics name for a problem (sizes, strides,
/// dtypes, alignment) and is kept for it: it depends on nothing that was timed, so that the same
/// job gives the same bits.
class Matmul {
 public:
  /// Takes the workspace from the queue's backend. All work goes to this queue.
  explicit Matmul(const Queue& queue);
  ~Matmul();

  /// The contract of Backend::matmul.
  void run(const Tensor& out, const Tensor& a, const Tensor& b, const MatmulOptions& options);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longspan::backend::cuda
