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

void Attention::forward(const Tensor& out, const Tensor& x, Pass& pass,
                        const AttentionCache* cache) const {
  Tensor qkv = pass.saved({x.size(0), qkv_.outputs()});
  qkv_.forward(qkv, x, pass);
  const Heads heads = split(qkv);
  pass.backend().rope(heads.q, pass.rope_table(), /*inverse=*/false);
  pass.backend().rope(heads.k, pass.rope_table(), /*inverse=*/false);

  Tensor attended = pass.saved({x.size(0), output_.inputs()});
  Tensor lse = pass.saved_statistics({sizes_.heads, x.size(0)});
  attend(attended.reshape(heads.q.shape()), lse, heads, pass, cache);
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

void Attention::backward(const Tensor& dx, const Tensor& dy, const Tensor& x, Pass& pass) const {
  const Tensor dqkv = pass.workspace({x.size(0), qkv_.outputs()});
  {
    const Tensor lse = pass.pop();
    const Tensor attended = pass.pop();
    const Tensor qkv = pass.pop();
    const Tensor dattended = pass.workspace(attended.shape());
    output_.backward(dattended, dy, attended, pass);

    const Heads in = split(qkv);
    const Heads d = split(dqkv);
    pass.backend().attention_backward(d.q, d.k, d.v, dattended.reshape(in.q.shape()),
                                      attended.reshape(in.q.shape()), lse, in.q, in.k, in.v,
                                      pass.cu_seqlens(), pass.cu_seqlens(), options_);
    pass.backend().rope(d.q, pass.rope_table(), /*inverse=*/true);
    pass.backend().rope(d.k, pass.rope_table(), /*inverse=*/true);
  }
  qkv_.backward(dx, dqkv, x, pass);
}

}  // namespace longspan::nn
