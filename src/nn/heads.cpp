#include "nn/heads.h"

#include <algorithm>

namespace longspan::nn {

using backend::Backend;
using backend::CuSeqlens;
using backend::Index;
using backend::Tensor;
using shard::Range;

Heads split_heads(const Tensor& qkv, Index heads, Index kv_heads, Index head_dim) {
  const Index tokens = qkv.size(0);
  const Index k_begin = heads * head_dim;
  const Index v_begin = k_begin + kv_heads * head_dim;
  const backend::Shape kv_shape{tokens, kv_heads, head_dim};
  return {.q = qkv.columns(0, k_begin).reshape({tokens, heads, head_dim}),
          .k = qkv.columns(k_begin, v_begin).reshape(kv_shape),
          .v = qkv.columns(v_begin, qkv.size(1)).reshape(kv_shape)};
}

HeadRuns::HeadRuns(Range heads, Index group) {
  const Index first_kv = heads.begin / group;
  for (Index begin = heads.begin; begin < heads.end;) {
    const Index kv = begin / group;
    const Index end = std::min((kv + 1) * group, heads.end);
    const Range q{begin - heads.begin, end - heads.begin};
    const bool is_alike =
        !runs_.empty() && runs_.back().q.size() / runs_.back().kv.size() == q.size();
    if (is_alike) {
      runs_.back().q.end = q.end;
      ++runs_.back().kv.end;
    } else {
      runs_.push_back({q, {kv - first_kv, kv - first_kv + 1}});
    }
    begin = end;
  }
}

Tensor HeadRuns::of(const Tensor& heads, const Range& range) {
  const Index head_dim = heads.size(2);
  return heads.reshape({heads.size(0), heads.size(1) * head_dim})
      .columns(range.begin * head_dim, range.end * head_dim)
      .reshape({heads.size(0), range.size(), head_dim});
}

Heads HeadRuns::of(const Heads& heads, const Run& run) {
  return {of(heads.q, run.q), of(heads.k, run.kv), of(heads.v, run.kv)};
}

void HeadRuns::forward(Backend& backend, const Tensor& out, const Tensor& lse, const Heads& in,
                       const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                       const backend::AttentionOptions& options) const {
  for (const Run& run : runs_) {
    const Heads part = of(in, run);
    backend.attention_forward(of(out, run.q), lse.rows(run.q.begin, run.q.end), part.q, part.k,
                              part.v, cu_seqlens_q, cu_seqlens_k, options);
  }
}

void HeadRuns::backward(Backend& backend, const Heads& d, const Tensor& dout, const Tensor& out,
                        const Tensor& lse, const Heads& in, const CuSeqlens& cu_seqlens_q,
                        const CuSeqlens& cu_seqlens_k,
                        const backend::AttentionOptions& options) const {
  for (const Run& run : runs_) {
    const Heads part = of(in, run);
    const Heads gradient = of(d, run);
    backend.attention_backward(gradient.q, gradient.k, gradient.v, of(dout, run.q), of(out, run.q),
                               lse.rows(run.q.begin, run.q.end), part.q, part.k, part.v,
                               cu_seqlens_q, cu_seqlens_k, options);
  }
}

}  // namespace longspan::nn
