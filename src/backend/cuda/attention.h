#pragma once

#include <memory>
#include <string>

#include "backend/cuda/fast_attention.h"
#include "backend/cuda_scratch.h"

namespace longspan::backend::cuda {

/// Backend's attention: by a fast one where that supports the shape, else by the plain kernels of
/// this backend, which do every dtype and shape.
class Attention {
 public:
  /// `fast` may be null. `deterministic`: the same bits in every run, as Backend promises; a fast
  /// attention may support more shapes without.
  /// `most_scratch`: see FastAttentionScratch.
  explicit Attention(std::unique_ptr<FastAttention> fast, bool deterministic = true,
                     std::size_t most_scratch = FastAttentionScratch::kMost);

  void forward(const Queue& queue, const Tensor& out, const Tensor& lse, const Tensor& q,
               const Tensor& k, const Tensor& v, const CuSeqlens& cu_seqlens_q,
               const CuSeqlens& cu_seqlens_k, const AttentionOptions& options);
  void backward(const Queue& queue, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& q,
                const Tensor& k, const Tensor& v, const CuSeqlens& cu_seqlens_q,
                const CuSeqlens& cu_seqlens_k, const AttentionOptions& options);

  /// Why the last bfloat16 call was done by the plain kernels; "" when none was. They are many
  /// times slower, so who runs a job should tell.
  const std::string& declined() const { return declined_; }

 private:
  void backward_part(const Queue& queue, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                     const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& q,
                     const Tensor& k, const Tensor& v, const CuSeqlens& cu_seqlens_q,
                     const CuSeqlens& cu_seqlens_k, const AttentionOptions& options);
  bool is_fast(const AttentionShape& shape, AttentionDirection direction,
               const AttentionOptions& options);

  std::unique_ptr<FastAttention> fast_;
  bool deterministic_;
  std::size_t most_scratch_;
  std::string declined_;
};

}  // namespace longspan::backend::cuda
