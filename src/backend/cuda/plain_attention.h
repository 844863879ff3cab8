#pragma once

#include "backend/cuda/queue.h"

namespace longspan::backend::cuda {

/// Attention by kernels of our own, in every dtype, head_dim up to 512, bit for bit reproducible;
/// contracts are those of Backend. In kernels/attention_plain_forward.cu and _backward.cu.
void attention_plain_forward(const Queue& queue, const Tensor& out, const Tensor& lse,
                             const Tensor& q, const Tensor& k, const Tensor& v,
                             const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                             const AttentionOptions& options);
void attention_plain_backward(const Queue& queue, const Tensor& dq, const Tensor& dk,
                              const Tensor& dv, const Tensor& dout, const Tensor& out,
                              const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                              const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                              const AttentionOptions& options);

}  // namespace longspan::backend::cuda
