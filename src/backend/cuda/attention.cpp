#include "backend/cuda/attention.h"

#include <cstdint>
#include <utility>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/plain_attention.h"

namespace longspan::backend::cuda {
namespace {

constexpr const char* kOperation = "attention";

bool is_aligned(const Tensor& tensor) {
  constexpr std::uintptr_t kBytes = 16;
  return reinterpret_cast<std::uintptr_t>(tensor.raw()) % kBytes == 0;
}

AttentionCall call_of(const Tensor& out, const Tensor& q, const Tensor& k, const Tensor& v,
                      const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                      const AttentionOptions& options, bool deterministic) {
  AttentionCall call{AttentionBatch(cu_seqlens_q, cu_seqlens_k), {}, options.scale};
  AttentionShape& shape = call.shape;
  shape.dtype = q.dtype();
  shape.heads = q.size(1);
  shape.kv_heads = k.size(1);
  shape.head_dim = q.size(2);
  shape.q_stride = q.row_stride();
  shape.k_stride = k.row_stride();
  shape.v_stride = v.row_stride();
  shape.out_stride = shape.dout_stride = out.row_stride();
  shape.aligned = is_aligned(out) && is_aligned(q) && is_aligned(k) && is_aligned(v);
  shape.causal = options.causal;
  shape.deterministic = deterministic;
  call.batch.measure(shape);
  shape.window = options.window < shape.longest_k ? options.window : 0;
  return call;
}

/// Some heads of a tensor [tokens, heads, head_dim].
Tensor heads_of_part(const Tensor& tensor, Index part, Index parts) {
  if (parts == 1) return tensor;
  const Index heads = tensor.size(1) / parts;
  const Index width = heads * tensor.size(2);
  return tensor.reshape({tensor.size(0), tensor.row_elements()})
      .columns(part * width, (part + 1) * width)
      .reshape({tensor.size(0), heads, tensor.size(2)});
}

}  // namespace

Attention::Attention(std::unique_ptr<FastAttention> fast, bool deterministic,
                     std::size_t most_scratch)
    : fast_(std::move(fast)), deterministic_(deterministic), most_scratch_(most_scratch) {}

bool Attention::is_fast(const AttentionShape& shape, AttentionDirection direction,
                        const AttentionOptions& options) {
  if (shape.dtype != base::DType::kBFloat16) return false;
  if (options.soft_cap > 0) {
    declined_ = describe(shape, direction) + ": it has no soft cap of scores";
    return false;
  }
  std::string why_not = "this program has no fast attention";
  if (fast_ != nullptr && fast_->supports(shape, direction, &why_not)) return true;
  declined_ = describe(shape, direction) + ": " + why_not;
  return false;
}

void Attention::forward(const Queue& queue, const Tensor& out, const Tensor& lse, const Tensor& q,
                        const Tensor& k, const Tensor& v, const CuSeqlens& cu_seqlens_q,
                        const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) {
  check_attention(out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, options);
  const AttentionCall call =
      call_of(out, q, k, v, cu_seqlens_q, cu_seqlens_k, options, deterministic_);
  if (is_fast(call.shape, AttentionDirection::kForward, options)) {
    return fast_->forward(queue, out, lse, q, k, v, call);
  }
  attention_plain_forward(queue, out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, options);
}

void Attention::backward(const Queue& queue, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                         const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& q,
                         const Tensor& k, const Tensor& v, const CuSeqlens& cu_seqlens_q,
                         const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) {
  check_attention(out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, options);
  expect(kOperation, "dout", dout, q.dtype(), q.shape());
  expect(kOperation, "dq", dq, q.dtype(), q.shape());
  expect(kOperation, "dk", dk, q.dtype(), k.shape());
  expect(kOperation, "dv", dv, q.dtype(), k.shape());
  const bool may_be_fast = q.dtype() == base::DType::kBFloat16 && options.soft_cap == 0.0F;
  const Index parts = may_be_fast ? FastAttentionScratch::parts(q, k, most_scratch_) : Index{1};
  for (Index part = 0; part < parts; ++part) {
    const auto of_part = [&](const Tensor& heads) { return heads_of_part(heads, part, parts); };
    const Index lse_rows = lse.size(0) / parts;
    backward_part(queue, of_part(dq), of_part(dk), of_part(dv), of_part(dout), of_part(out),
                  lse.rows(part * lse_rows, (part + 1) * lse_rows), of_part(q), of_part(k),
                  of_part(v), cu_seqlens_q, cu_seqlens_k, options);
  }
}

void Attention::backward_part(const Queue& queue, const Tensor& dq, const Tensor& dk,
                              const Tensor& dv, const Tensor& dout, const Tensor& out,
                              const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                              const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                              const AttentionOptions& options) {
  AttentionCall call = call_of(out, q, k, v, cu_seqlens_q, cu_seqlens_k, options, deterministic_);
  call.shape.dout_stride = dout.row_stride();
  call.shape.dense_gradients = dq.is_dense() && dk.is_dense() && dv.is_dense();
  // Gradients with gaps are not given to the fast attention as they are.
  const auto fits = [](const Tensor& gradient) {
    return !gradient.is_dense() || is_aligned(gradient);
  };
  call.shape.aligned = call.shape.aligned && is_aligned(dout) && fits(dq) && fits(dk) && fits(dv);
  if (is_fast(call.shape, AttentionDirection::kBackward, options)) {
    return fast_->backward(queue, dq, dk, dv, dout, out, lse, q, k, v, call);
  }
  attention_plain_backward(queue, dq, dk, dv, dout, out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k,
                           options);
}

}  // namespace longspan::backend::cuda
