#pragma once

#include <memory>

#include "longspan/backend/backend.h"

namespace longspan::backend::cpu {

/// Packed attention by tiles with an online softmax (Dao, "FlashAttention-2", 2023). Products of
/// tiles go through oneDNN, one thread a tile; a thread works on one (document, head, query tile)
/// in the forward and one (document, KV head) in the backward, so results do not depend on which
/// thread does what. Scratch: a constant for each thread, and in the backward three float32
/// [longest document, head_dim] for each thread.
class Attention {
 public:
  Attention();
  ~Attention();

  void forward(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
               const Tensor& v, const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
               const AttentionOptions& options);
  void backward(Backend& backend, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& q,
                const Tensor& k, const Tensor& v, const CuSeqlens& cu_seqlens_q,
                const CuSeqlens& cu_seqlens_k, const AttentionOptions& options);

 private:
  class Threads;
  std::unique_ptr<Threads> threads_;
};

/// Bytes that a backward takes from the backend for these arguments on so many threads.
std::size_t attention_backward_bytes(base::DType dtype, Index head_dim,
                                     const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                                     Index threads);

}  // namespace longspan::backend::cpu
