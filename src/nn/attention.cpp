#include "longspan/nn/attention.h"

#include <cmath>
#include <utility>

#include "nn/heads.h"
#include "nn/ring_attention.h"
#include "nn/ulysses.h"

namespace longspan::nn {

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

Tensor Attention::project(const Tensor& x, const Ulysses& ulysses, bool keeps, Pass& pass) const {
  const backend::Shape shape{x.size(0), qkv_.outputs()};
  const bool keeps_local = keeps && ulysses.is_alone();
  Tensor local = keeps_local ? pass.saved(shape) : pass.workspace(shape);
  qkv_.forward(local, x, pass);
  const Heads heads = split_heads(local, sizes_.heads, sizes_.kv_heads, sizes_.head_dim);
  pass.backend().rope(heads.q, pass.rope_table(), /*inverse=*/false);
  pass.backend().rope(heads.k, pass.rope_table(), /*inverse=*/false);
  if (ulysses.is_alone()) return local;
  Tensor shared = keeps ? pass.saved(ulysses.qkv_shape()) : pass.workspace(ulysses.qkv_shape());
  ulysses.qkv_to_heads(shared, local);
  return shared;
}

void Attention::forward(const Tensor& out, const Tensor& x, Pass& pass, const AttentionCache* cache,
                        AttentionKeep keep) const {
  const Ulysses ulysses(sizes_, pass);
  const bool keeps = keep != AttentionKeep::kNothing;
  const auto output = [&](const backend::Shape& shape) {
    return keeps ? pass.saved(shape) : pass.workspace(shape);
  };
  Slots slots;
  slots.qkv = project(x, ulysses, keep == AttentionKeep::kAll, pass);
  slots.shared = output(ulysses.attended_shape());
  slots.lse = keeps ? pass.saved_statistics(ulysses.lse_shape())
                    : pass.workspace_statistics(ulysses.lse_shape());
  attend(slots, ulysses, pass, cache);
  slots.attended = slots.shared;
  if (!ulysses.is_alone()) {
    slots.attended = output({x.size(0), output_.inputs()});
    ulysses.attended_to_tokens(slots.attended, slots.shared);
  }
  output_.forward(out, slots.attended, pass);
  push(std::move(slots), keep, ulysses, pass);
}

void Attention::again(const Tensor& out, const Tensor& x, Pass& pass, AttentionKeep kept) const {
  if (kept == AttentionKeep::kNothing) return forward(out, x, pass);
  const Ulysses ulysses(sizes_, pass);
  Slots slots = pop(kept, ulysses, pass);
  slots.qkv = project(x, ulysses, /*keeps=*/true, pass);
  output_.forward(out, slots.attended, pass);
  push(std::move(slots), AttentionKeep::kAll, ulysses, pass);
}

void Attention::push(Slots slots, AttentionKeep keep, const Ulysses& ulysses, Pass& pass) {
  if (keep == AttentionKeep::kNothing) return;
  if (!ulysses.is_alone()) pass.push(std::move(slots.attended));
  pass.push(std::move(slots.shared));
  pass.push(std::move(slots.lse));
  if (keep == AttentionKeep::kAll) pass.push(std::move(slots.qkv));
}

Attention::Slots Attention::pop(AttentionKeep kept, const Ulysses& ulysses, Pass& pass) {
  Slots slots;
  if (kept == AttentionKeep::kAll) slots.qkv = pass.pop();
  slots.lse = pass.pop();
  slots.shared = pass.pop();
  slots.attended = ulysses.is_alone() ? slots.shared : pass.pop();
  return slots;
}

void Attention::attend(const Slots& slots, const Ulysses& ulysses, Pass& pass,
                       const AttentionCache* cache) const {
  const Heads in = ulysses.split(slots.qkv);
  const Tensor out = slots.shared.reshape(in.q.shape());
  const SequenceShard* shard = pass.shard();
  if (shard != nullptr && shard->layout.degrees().ring > 1) {
    RingAttention(ulysses.runs(), options_, pass).forward(out, slots.lse, in);
    return;
  }
  if (cache == nullptr) {
    ulysses.runs().forward(pass.backend(), out, slots.lse, in, pass.cu_seqlens(), pass.cu_seqlens(),
                           options_);
    return;
  }
  const Index end = cache->length + in.k.size(0);
  pass.backend().copy(cache->keys.rows(cache->length, end), in.k);
  pass.backend().copy(cache->values.rows(cache->length, end), in.v);
  const Heads cached{in.q, cache->keys.rows(0, end), cache->values.rows(0, end)};
  ulysses.runs().forward(pass.backend(), out, slots.lse, cached, pass.cu_seqlens(),
                         {0, static_cast<std::int32_t>(end)}, options_);
}

Tensor Attention::attend_backward(const Tensor& dshared, const Slots& slots, const Ulysses& ulysses,
                                  Pass& pass) const {
  Tensor dqkv = pass.workspace(slots.qkv.shape());
  const Heads in = ulysses.split(slots.qkv);
  const Heads d = ulysses.split(dqkv);
  const Tensor dout = dshared.reshape(in.q.shape());
  const Tensor out = slots.shared.reshape(in.q.shape());
  const SequenceShard* shard = pass.shard();
  if (shard != nullptr && shard->layout.degrees().ring > 1) {
    RingAttention(ulysses.runs(), options_, pass).backward(d, dout, out, slots.lse, in);
  } else {
    ulysses.runs().backward(pass.backend(), d, dout, out, slots.lse, in, pass.cu_seqlens(),
                            pass.cu_seqlens(), options_);
  }
  return dqkv;
}

Tensor Attention::backward_to_qkv(const Tensor& dy, Pass& pass) const {
  const Ulysses ulysses(sizes_, pass);
  Slots slots = pop(AttentionKeep::kAll, ulysses, pass);
  Tensor dattended = pass.workspace(slots.attended.shape());
  output_.backward(dattended, dy, slots.attended, pass);
  slots.attended = {};
  if (!ulysses.is_alone()) {
    const Tensor dshared = pass.workspace(slots.shared.shape());
    ulysses.attended_to_tokens_adjoint(dshared, dattended);
    dattended = dshared;
  }

  Tensor dqkv = attend_backward(dattended, slots, ulysses, pass);
  dattended = {};
  slots = {};
  if (!ulysses.is_alone()) {
    const Tensor dlocal = pass.workspace({pass.tokens(), qkv_.outputs()});
    ulysses.qkv_to_heads_adjoint(dlocal, dqkv);
    dqkv = dlocal;
  }
  const Heads dheads = split_heads(dqkv, sizes_.heads, sizes_.kv_heads, sizes_.head_dim);
  pass.backend().rope(dheads.q, pass.rope_table(), /*inverse=*/true);
  pass.backend().rope(dheads.k, pass.rope_table(), /*inverse=*/true);
  return dqkv;
}

void Attention::backward_to_input(const Tensor& dx, const Tensor& dqkv, const Tensor& x,
                                  Pass& pass) const {
  qkv_.backward(dx, dqkv, x, pass);
}

}  // namespace longspan::nn
