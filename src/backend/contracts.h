#pragma once

#include "longspan/backend/backend.h"

// What operations demand of the shapes, dtypes and options that they are given, one function an
// operation, for all backends. Each throws InternalError that names the argument, what it is and
// what was expected. What tensors hold is not looked at: it may lie on a device.
namespace longspan::backend {

void check_attention(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                     const Tensor& v, const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k);
void check_attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                           const Tensor& block_lse);
void check_gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table);
void check_embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids);
void check_cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                         const Tensor& labels);
void check_adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                 const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options);

}  // namespace longspan::backend
