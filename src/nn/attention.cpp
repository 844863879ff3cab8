#include "longspan/nn/attention.h"

#include <cmath>
#include <utility>

#include "longspan/base/error.h"
#include "nn/halo_attention.h"
#include "nn/heads.h"
#include "nn/ring_attention.h"
#include "nn/ulysses.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

namespace {

/// Whether several places share the keys and values that a query sees.
bool has_ring(const Pass& pass) { return pass.shard() != nullptr && pass.shard()->ring != nullptr; }

/// q, k and v side by side: of a name each, or of one.
std::vector<Linear::Part> qkv_parts(const std::vector<std::string>& names,
                                    const AttentionSizes& sizes) {
  const Index q = sizes.heads * sizes.head_dim;
  const Index kv = sizes.kv_heads * sizes.head_dim;
  if (names.size() == 1) return {{names[0], q + 2 * kv}};
  return {{names.at(0), q}, {names.at(1), kv}, {names.at(2), kv}};
}

backend::AttentionOptions options_of(const AttentionKind& kind, Index head_dim) {
  const double usual = 1.0 / std::sqrt(static_cast<double>(head_dim));
  return {.scale = static_cast<float>(kind.scale > 0.0 ? kind.scale : usual),
          .causal = kind.causal,
          .window = kind.window,
          .soft_cap = static_cast<float>(kind.soft_cap)};
}

std::unique_ptr<RmsNorm> norm_of(ParameterSet& parameters, const std::string& name, Index width,
                                 const backend::RmsNormOptions& options) {
  if (name.empty()) return nullptr;
  return std::make_unique<RmsNorm>(parameters, name, width, options);
}

/// Of q and of k.
struct Parts {
  Tensor q;
  Tensor k;
};

/// Of [tokens, q and k side by side, and maybe v]: heads, [tokens, heads, head_dim].
Parts heads_of(const Tensor& both, const AttentionSizes& sizes) {
  const Index tokens = both.size(0);
  const Index q_end = sizes.heads * sizes.head_dim;
  const Index k_end = q_end + sizes.kv_heads * sizes.head_dim;
  return {both.columns(0, q_end).reshape({tokens, sizes.heads, sizes.head_dim}),
          both.columns(q_end, k_end).reshape({tokens, sizes.kv_heads, sizes.head_dim})};
}

/// Of a number for each head of each token, q's first: [tokens, heads].
Parts statistics_of(const Tensor& all, Index tokens, const AttentionSizes& sizes) {
  const Index q_end = tokens * sizes.heads;
  return {all.rows(0, q_end).reshape({tokens, sizes.heads}),
          all.rows(q_end, all.size(0)).reshape({tokens, sizes.kv_heads})};
}

Tensor make(bool keeps, const backend::Shape& shape, const Pass& pass) {
  return keeps ? pass.saved(shape) : pass.workspace(shape);
}

Tensor make_statistics(bool keeps, const backend::Shape& shape, const Pass& pass) {
  return keeps ? pass.saved_statistics(shape) : pass.workspace_statistics(shape);
}

}  // namespace

Attention::Attention(ParameterSet& parameters, const AttentionProjections& projections,
                     const AttentionSizes& sizes, const AttentionKind& kind)
    : sizes_(sizes),
      is_rotary_(projections.is_rotary),
      rope_table_(kind.rope_table),
      options_(options_of(kind, sizes.head_dim)),
      qkv_(parameters, qkv_parts(projections.qkv, sizes), sizes.hidden, projections.qkv_options),
      output_(parameters, {{projections.output, sizes.hidden}}, sizes.heads * sizes.head_dim,
              projections.output_options),
      query_norm_(
          norm_of(parameters, projections.query_norm, sizes.head_dim, projections.norm_options)),
      key_norm_(
          norm_of(parameters, projections.key_norm, sizes.head_dim, projections.norm_options)),
      output_norm_(
          norm_of(parameters, projections.output_norm, sizes.hidden, projections.norm_options)) {}

Tensor Attention::rope_table(const Pass& pass) const {
  return is_rotary_ ? pass.rope_table(rope_table_) : Tensor();
}

void Attention::rotate(const Tensor& rows, Index begin, Pass& pass, bool inverse) const {
  if (!is_rotary_) return;
  const Parts heads = heads_of(rows, sizes_);
  const Tensor table = pass.rope_table(rope_table_).rows(begin, begin + rows.size(0));
  pass.backend().rope(heads.q, heads.q, table, inverse);
  pass.backend().rope(heads.k, heads.k, table, inverse);
}

void Attention::normalise_heads(const Tensor& rows, const Normed& heads, Index begin,
                                Pass& pass) const {
  const Index end = begin + rows.size(0);
  const Tensor input = heads.input.rows(begin, end);
  pass.backend().copy(input, rows.columns(0, input.size(1)));
  const Parts out = heads_of(rows, sizes_);
  const Parts in = heads_of(input, sizes_);
  const Parts statistics = statistics_of(heads.statistics, heads.input.size(0), sizes_);
  query_norm_->forward(out.q, statistics.q.rows(begin, end), in.q, pass);
  key_norm_->forward(out.k, statistics.k.rows(begin, end), in.k, pass);
}

Attention::Normed Attention::normalise_heads(const Tensor& qkv, bool keeps, Pass& pass) const {
  if (!query_norm_) return {};
  const Index tokens = qkv.size(0);
  const Index heads = sizes_.heads + sizes_.kv_heads;
  const Normed normed{make(keeps, {tokens, heads * sizes_.head_dim}, pass),
                      make_statistics(keeps, {tokens * heads}, pass)};
  normalise_heads(qkv, normed, 0, pass);
  return normed;
}

/// Gradients of q and k become those of what they were made of, in place.
void Attention::normalise_heads_backward(const Tensor& dqkv, const Normed& heads,
                                         Pass& pass) const {
  if (!query_norm_) return;
  const Parts d = heads_of(dqkv, sizes_);
  const Parts in = heads_of(heads.input, sizes_);
  const Parts statistics = statistics_of(heads.statistics, dqkv.size(0), sizes_);
  query_norm_->backward(d.q, d.q, {}, statistics.q, in.q, pass);
  key_norm_->backward(d.k, d.k, {}, statistics.k, in.k, pass);
}

/// The output projection, and its norm if there is one.
Attention::Normed Attention::project(const Tensor& out, const Tensor& attended, bool keeps,
                                     Pass& pass) const {
  if (!output_norm_) {
    if (out.defined()) output_.forward(out, attended, pass);
    return {};
  }
  Normed output{make(keeps, out.shape(), pass),
                make_statistics(keeps, output_norm_->statistics(out.size(0)), pass)};
  output_.forward(output.input, attended, pass);
  output_norm_->forward(out, output.statistics, output.input, pass);
  return output;
}

void Attention::forward(const Tensor& out, const Tensor& x, Pass& pass, const AttentionCache* cache,
                        AttentionKeep keep, const AttentionSaving& saving) const {
  const Ulysses ulysses(sizes_, pass);
  const bool keeps_all = keep == AttentionKeep::kAll;
  const bool keeps_output = keep != AttentionKeep::kNothing;
  Slots slots;
  {
    const bool alone = ulysses.is_alone();
    const Tensor local = make(keeps_all && alone, {x.size(0), qkv_.outputs()}, pass);
    qkv_.forward(local, x, pass);
    slots.heads = normalise_heads(local, keeps_all, pass);
    slots.qkv = alone ? local : make(keeps_all, ulysses.qkv_shape(), pass);
    if (alone) {
      rotate(local, 0, pass, /*inverse=*/false);
    } else {
      ulysses.qkv_to_heads(slots.qkv, local, rope_table(pass));
    }
  }
  if (!keeps_all) slots.heads = {};
  slots.shared =
      make(ulysses.is_alone() ? keeps_output : keeps_all, ulysses.attended_shape(), pass);
  slots.lse = make_statistics(keeps_output, ulysses.lse_shape(), pass);
  attend(slots, ulysses, pass, cache);
  slots.attended = slots.shared;
  if (!ulysses.is_alone()) {
    slots.attended = make(keeps_output, {x.size(0), output_.inputs()}, pass);
    ulysses.attended_to_tokens(slots.attended, slots.shared);
  }
  slots.output = project(out, slots.attended, keeps_all, pass);
  push(std::move(slots), keep, saving, ulysses, pass);
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
    slots.heads = normalise_heads(slots.qkv, /*keeps=*/true, pass);
    rotate(slots.qkv, 0, pass, /*inverse=*/false);
  } else {
    const Tensor local = pass.workspace({x.size(0), qkv_.outputs()});
    qkv_.forward(local, x, pass);
    slots.heads = normalise_heads(local, /*keeps=*/true, pass);
    slots.qkv = pass.saved(ulysses.qkv_shape());
    slots.shared = pass.saved(ulysses.attended_shape());
    ulysses.qkv_and_attended_to_heads(slots.qkv, slots.shared, local, slots.attended,
                                      rope_table(pass));
  }
  slots.output = project(out, slots.attended, /*keeps=*/true, pass);
  // They are taken off again at once.
  push(std::move(slots), AttentionKeep::kAll, {}, ulysses, pass);
}

void Attention::push(Slots slots, AttentionKeep keep, const AttentionSaving& saving,
                     const Ulysses& ulysses, Pass& pass) const {
  if (keep == AttentionKeep::kNothing) return;
  const auto push_normed = [&pass](Normed& normed, const SaveParts& parts, const SlotRow& row) {
    pass.push(std::move(normed.input), parts, row);
    pass.push(std::move(normed.statistics));
  };
  const Index head = sizes_.head_dim;
  if (ulysses.is_alone()) slots.shared = {};  // it is `attended`
  pass.push(std::move(slots.attended), saving.output, {SlotKind::kAttentionOutput, head});
  pass.push(std::move(slots.lse));
  if (keep == AttentionKeep::kOutput) return;
  if (!ulysses.is_alone()) {
    pass.push(std::move(slots.shared), saving.output, ulysses.attended_row());
  }
  pass.push(std::move(slots.qkv), saving.qkv, ulysses.qkv_row());
  if (query_norm_) push_normed(slots.heads, saving.qkv, {SlotKind::kAttentionHeads, head});
  if (output_norm_) {
    push_normed(slots.output, saving.projected, {SlotKind::kAttentionProjected, sizes_.hidden});
  }
}

/// What a forward that kept everything, or `again`, pushed.
Attention::Slots Attention::pop(const Ulysses& ulysses, Pass& pass) const {
  Slots slots;
  if (output_norm_) {
    slots.output.statistics = pass.pop();
    slots.output.input = pass.pop();
  }
  if (query_norm_) {
    slots.heads.statistics = pass.pop();
    slots.heads.input = pass.pop_incomplete().tensor;  // the same rows are missing as of qkv
  }
  Pass::Incomplete qkv = pass.pop_incomplete();
  slots.qkv = std::move(qkv.tensor);
  slots.missing = std::move(qkv.missing);
  if (!ulysses.is_alone() && !slots.missing.empty()) {
    throw base::InternalError("q, k and v are to be made again after they were exchanged");
  }
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
    if (options_.window > 0) {
      return HaloAttention(ulysses.runs(), options_, pass).forward(out, slots.lse, in);
    }
    return RingAttention(ulysses.runs(), options_, pass).forward(out, slots.lse, in);
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

/// What a forward made of x and did not keep.
void Attention::project_again(const Slots& slots, const Tensor& x, Pass& pass) const {
  for (const shard::Range& range : slots.missing) {
    const TokenRange tokens_of_range(pass, range.begin);
    const Tensor rows = slots.qkv.rows(range.begin, range.end);
    qkv_.forward(rows, x.rows(range.begin, range.end), pass);
    if (query_norm_) normalise_heads(rows, slots.heads, range.begin, pass);
    rotate(rows, range.begin, pass, /*inverse=*/false);
  }
}

Tensor Attention::attend_backward(const Tensor& dshared, const Slots& slots, const Ulysses& ulysses,
                                  Pass& pass) const {
  Tensor dqkv = pass.workspace(slots.qkv.shape());
  const Heads in = ulysses.split(slots.qkv);
  const Heads d = ulysses.split(dqkv);
  const Tensor dout = dshared.reshape(in.q.shape());
  const Tensor out = slots.shared.reshape(in.q.shape());
  if (has_ring(pass) && options_.window > 0) {
    HaloAttention(ulysses.runs(), options_, pass).backward(d, dout, out, slots.lse, in);
  } else if (has_ring(pass)) {
    RingAttention(ulysses.runs(), options_, pass).backward(d, dout, out, slots.lse, in);
  } else {
    ulysses.runs().backward(pass.backend(), d, dout, out, slots.lse, in, pass.cu_seqlens(),
                            pass.cu_seqlens(), options_);
  }
  return dqkv;
}

Tensor Attention::backward_to_qkv(const Tensor& dy, const Tensor& x, Pass& pass) const {
  const Ulysses ulysses(sizes_, pass);
  Slots slots = pop(ulysses, pass);
  Tensor dprojected = dy;
  if (output_norm_) {
    dprojected = pass.workspace(dy.shape());
    output_norm_->backward(dprojected, dy, {}, slots.output.statistics, slots.output.input, pass);
    slots.output = {};
  }
  Tensor dattended = pass.workspace(slots.attended.shape());
  output_.backward(dattended, dprojected, slots.attended, pass);
  dprojected = {};
  slots.attended = {};
  if (!ulysses.is_alone()) {
    const Tensor dshared = pass.workspace(slots.shared.shape());
    ulysses.attended_to_tokens_adjoint(dshared, dattended);
    dattended = dshared;
  }

  project_again(slots, x, pass);
  Tensor dqkv = attend_backward(dattended, slots, ulysses, pass);
  dattended = {};
  const Normed heads = std::move(slots.heads);
  slots = {};
  if (!ulysses.is_alone()) {
    const Tensor dlocal = pass.workspace({pass.tokens(), qkv_.outputs()});
    ulysses.qkv_to_heads_adjoint(dlocal, dqkv);
    dqkv = dlocal;
  }
  rotate(dqkv, 0, pass, /*inverse=*/true);
  normalise_heads_backward(dqkv, heads, pass);
  return dqkv;
}

void Attention::backward_to_input(const Tensor& dx, const Tensor& dqkv, const Tensor& x,
                                  Pass& pass) const {
  qkv_.backward(dx, dqkv, x, pass);
}

}  // namespace longspan::nn
