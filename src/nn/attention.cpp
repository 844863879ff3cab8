#include "longspan/nn/attention.h"

#include <cmath>
#include <utility>

#include "nn/heads.h"
#include "nn/ring_attention.h"
#include "nn/ulysses.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

namespace {

/// Whether keys and values go around.
bool has_ring(const Pass& pass) {
  return pass.shard() != nullptr && pass.shard()->layout.degrees().ring > 1;
}

/// q, k and v side by side: of a name each, or of one.
std::vector<Linear::Part> qkv_parts(const std::vector<std::string>& names,
                                    const AttentionSizes& sizes) {
  const Index q = sizes.heads * sizes.head_dim;
  const Index kv = sizes.kv_heads * sizes.head_dim;
  if (names.size() == 1) return {{names[0], q + 2 * kv}};
  return {{names.at(0), q}, {names.at(1), kv}, {names.at(2), kv}};
}

}  // namespace

Attention::Attention(ParameterSet& parameters, const AttentionProjections& projections,
                     const AttentionSizes& sizes)
    : sizes_(sizes),
      is_rotary_(projections.is_rotary),
      options_{.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(sizes.head_dim))),
               .causal = true},
      qkv_(parameters, qkv_parts(projections.qkv, sizes), sizes.hidden, projections.qkv_options),
      output_(parameters, {{projections.output, sizes.hidden}}, sizes.heads * sizes.head_dim,
              projections.output_options) {}

Tensor Attention::rope_table(const Pass& pass) const {
  return is_rotary_ ? pass.rope_table() : Tensor();
}

void Attention::rotate(const Tensor& qkv, Pass& pass, bool inverse) const {
  if (!is_rotary_) return;
  const Heads heads = split_heads(qkv, sizes_.heads, sizes_.kv_heads, sizes_.head_dim);
  pass.backend().rope(heads.q, heads.q, pass.rope_table(), inverse);
  pass.backend().rope(heads.k, heads.k, pass.rope_table(), inverse);
}

void Attention::forward(const Tensor& out, const Tensor& x, Pass& pass, const AttentionCache* cache,
                        AttentionKeep keep) const {
  const Ulysses ulysses(sizes_, pass);
  const auto make = [&pass](bool keeps, const backend::Shape& shape) {
    return keeps ? pass.saved(shape) : pass.workspace(shape);
  };
  const bool keeps_all = keep == AttentionKeep::kAll;
  const bool keeps_output = keep != AttentionKeep::kNothing;
  Slots slots;
  {
    const bool alone = ulysses.is_alone();
    const Tensor local = make(keeps_all && alone, {x.size(0), qkv_.outputs()});
    qkv_.forward(local, x, pass);
    slots.qkv = alone ? local : make(keeps_all, ulysses.qkv_shape());
    if (alone) {
      rotate(local, pass, /*inverse=*/false);
    } else {
      ulysses.qkv_to_heads(slots.qkv, local, rope_table(pass));
    }
  }
  slots.shared = make(ulysses.is_alone() ? keeps_output : keeps_all, ulysses.attended_shape());
  slots.lse = keeps_output ? pass.saved_statistics(ulysses.lse_shape())
                           : pass.workspace_statistics(ulysses.lse_shape());
  attend(slots, ulysses, pass, cache);
  slots.attended = slots.shared;
  if (!ulysses.is_alone()) {
    slots.attended = make(keeps_output, {x.size(0), output_.inputs()});
    ulysses.attended_to_tokens(slots.attended, slots.shared);
  }
  output_.forward(out, slots.attended, pass);
  push(std::move(slots), keep, ulysses, pass);
}

void Attention::again(const Tensor& out, const Tensor& x, Pass& pass, AttentionKeep kept) const {
  if (kept == AttentionKeep::kNothing) return forward(out, x, pass);
  const Ulysses ulysses(sizes_, pass);
  Slots slots;
  slots.lse = pass.pop();
  slots.attended = pass.pop();
  if (ulysses.is_alone()) {
    slots.shared = slots.attended;
    slots.qkv = pass.saved(ulysses.qkv_shape());
    qkv_.forward(slots.qkv, x, pass);
    rotate(slots.qkv, pass, /*inverse=*/false);
  } else {
    const Tensor local = pass.workspace({x.size(0), qkv_.outputs()});
    qkv_.forward(local, x, pass);
    slots.qkv = pass.saved(ulysses.qkv_shape());
    slots.shared = pass.saved(ulysses.attended_shape());
    ulysses.qkv_and_attended_to_heads(slots.qkv, slots.shared, local, slots.attended,
                                      rope_table(pass));
  }
  output_.forward(out, slots.attended, pass);
  push(std::move(slots), AttentionKeep::kAll, ulysses, pass);
}

void Attention::push(Slots slots, AttentionKeep keep, const Ulysses& ulysses, Pass& pass) {
  if (keep == AttentionKeep::kNothing) return;
  pass.push(std::move(slots.attended));
  pass.push(std::move(slots.lse));
  if (keep == AttentionKeep::kOutput) return;
  if (!ulysses.is_alone()) pass.push(std::move(slots.shared));
  pass.push(std::move(slots.qkv));
}

/// What a forward that kept everything, or `again`, pushed.
Attention::Slots Attention::pop(const Ulysses& ulysses, Pass& pass) {
  Slots slots;
  slots.qkv = pass.pop();
  if (!ulysses.is_alone()) slots.shared = pass.pop();
  slots.lse = pass.pop();
  slots.attended = pass.pop();
  if (ulysses.is_alone()) slots.shared = slots.attended;
  return slots;
}

void Attention::attend(const Slots& slots, const Ulysses& ulysses, Pass& pass,
                       const AttentionCache* cache) const {
  const Heads in = ulysses.split(slots.qkv);
  const Tensor out = slots.shared.reshape(in.q.shape());
  if (has_ring(pass)) {
    RingAttention(ulysses.runs(), options_, pass).forward(out, slots.lse, in);
    return;
  }
  if (cache == nullptr) {
    ulysses.runs().forward(pass.backend(), out, slots.lse, in, pass.cu_seqlens(), pass.cu_seqlens(),
                           options_);
    return;
  }
  const Index end = cache->length + in.k.size(0);
  pass.backend().copy_all(
      {cache->keys.rows(cache->length, end), cache->values.rows(cache->length, end)}, {in.k, in.v});
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
  if (has_ring(pass)) {
    RingAttention(ulysses.runs(), options_, pass).backward(d, dout, out, slots.lse, in);
  } else {
    ulysses.runs().backward(pass.backend(), d, dout, out, slots.lse, in, pass.cu_seqlens(),
                            pass.cu_seqlens(), options_);
  }
  return dqkv;
}

Tensor Attention::backward_to_qkv(const Tensor& dy, Pass& pass) const {
  const Ulysses ulysses(sizes_, pass);
  Slots slots = pop(ulysses, pass);
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
  rotate(dqkv, pass, /*inverse=*/true);
  return dqkv;
}

void Attention::backward_to_input(const Tensor& dx, const Tensor& dqkv, const Tensor& x,
                                  Pass& pass) const {
  qkv_.backward(dx, dqkv, x, pass);
}

}  // namespace longspan::nn
