#include "longspan/nn/attention.h"

#include <cmath>
#include <utility>

namespace longspan::nn {

using backend::CuSeqlens;
using backend::Index;
using backend::Tensor;

Attention::Attention(ParameterSet& parameters, const std::string& prefix,
                     const AttentionSizes& sizes)
    : sizes_(sizes),
      options_{.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(sizes.head_dim))),
               .causal = true},
      qkv_(parameters,
           {{prefix + "q_proj.weight", sizes.heads * sizes.head_dim},
            {prefix + "k_proj.weight", sizes.kv_heads * sizes.head_dim},
            {prefix + "v_proj.weight", sizes.kv_heads * sizes.head_dim}},
           sizes.hidden),
      output_(parameters, {{prefix + "o_proj.weight", sizes.hidden}},
              sizes.heads * sizes.head_dim) {}

Attention::Heads Attention::split(const Tensor& qkv) const {
  const Index tokens = qkv.size(0);
  const Index k_begin = sizes_.heads * sizes_.head_dim;
  const Index v_begin = k_begin + sizes_.kv_heads * sizes_.head_dim;
  const backend::Shape kv_shape{tokens, sizes_.kv_heads, sizes_.head_dim};
  return {.q = qkv.columns(0, k_begin).reshape({tokens, sizes_.heads, sizes_.head_dim}),
          .k = qkv.columns(k_begin, v_begin).reshape(kv_shape),
          .v = qkv.columns(v_begin, qkv.size(1)).reshape(kv_shape)};
}

void Attention::project(const Tensor& qkv, const Tensor& x, Pass& pass) const {
  qkv_.forward(qkv, x, pass);
  const Heads heads = split(qkv);
  pass.backend().rope(heads.q, pass.rope_table(), /*inverse=*/false);
  pass.backend().rope(heads.k, pass.rope_table(), /*inverse=*/false);
}

void Attention::forward(const Tensor& out, const Tensor& x, Pass& pass, const AttentionCache* cache,
                        AttentionKeep keep) const {
  const bool keeps_output = keep != AttentionKeep::kNothing;
  const bool keeps_qkv = keep == AttentionKeep::kAll;
  const backend::Shape qkv_shape{x.size(0), qkv_.outputs()};
  const backend::Shape lse_shape{sizes_.heads, x.size(0)};
  Tensor qkv = keeps_qkv ? pass.saved(qkv_shape) : pass.workspace(qkv_shape);
  project(qkv, x, pass);

  const backend::Shape attended_shape{x.size(0), output_.inputs()};
  Tensor attended = keeps_output ? pass.saved(attended_shape) : pass.workspace(attended_shape);
  Tensor lse =
      keeps_output ? pass.saved_statistics(lse_shape) : pass.workspace_statistics(lse_shape);
  const Heads heads = split(qkv);
  attend(attended.reshape(heads.q.shape()), lse, heads, pass, cache);
  output_.forward(out, attended, pass);
  if (keeps_qkv) pass.push(std::move(qkv));
  if (keeps_output) {
    pass.push(std::move(attended));
    pass.push(std::move(lse));
  }
}

void Attention::again(const Tensor& out, const Tensor& x, Pass& pass, AttentionKeep kept) const {
  if (kept == AttentionKeep::kNothing) return forward(out, x, pass);
  Tensor lse = pass.pop();
  Tensor attended = pass.pop();
  Tensor qkv = pass.saved({x.size(0), qkv_.outputs()});
  project(qkv, x, pass);
  output_.forward(out, attended, pass);
  pass.push(std::move(qkv));
  pass.push(std::move(attended));
  pass.push(std::move(lse));
}

void Attention::attend(const Tensor& out, const Tensor& lse, const Heads& in, Pass& pass,
                       const AttentionCache* cache) const {
  if (cache == nullptr) {
    pass.backend().attention_forward(out, lse, in.q, in.k, in.v, pass.cu_seqlens(),
                                     pass.cu_seqlens(), options_);
    return;
  }
  const Index end = cache->length + in.k.size(0);
  pass.backend().copy(cache->keys.rows(cache->length, end), in.k);
  pass.backend().copy(cache->values.rows(cache->length, end), in.v);
  const CuSeqlens cu_seqlens_k{0, static_cast<std::int32_t>(end)};
  pass.backend().attention_forward(out, lse, in.q, cache->keys.rows(0, end),
                                   cache->values.rows(0, end), pass.cu_seqlens(), cu_seqlens_k,
                                   options_);
}

Tensor Attention::backward_to_qkv(const Tensor& dy, Pass& pass) const {
  const Tensor lse = pass.pop();
  const Tensor attended = pass.pop();
  const Tensor qkv = pass.pop();
  const Tensor dattended = pass.workspace(attended.shape());
  output_.backward(dattended, dy, attended, pass);

  Tensor dqkv = pass.workspace(qkv.shape());
  const Heads in = split(qkv);
  const Heads d = split(dqkv);
  pass.backend().attention_backward(d.q, d.k, d.v, dattended.reshape(in.q.shape()),
                                    attended.reshape(in.q.shape()), lse, in.q, in.k, in.v,
                                    pass.cu_seqlens(), pass.cu_seqlens(), options_);
  pass.backend().rope(d.q, pass.rope_table(), /*inverse=*/true);
  pass.backend().rope(d.k, pass.rope_table(), /*inverse=*/true);
  return dqkv;
}

void Attention::backward_to_input(const Tensor& dx, const Tensor& dqkv, const Tensor& x,
                                  Pass& pass) const {
  qkv_.backward(dx, dqkv, x, pass);
}

}  // namespace longspan::nn
