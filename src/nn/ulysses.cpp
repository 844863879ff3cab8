#include "nn/ulysses.h"

#include <utility>

namespace longspan::nn {

using backend::Index;
using backend::Shape;
using backend::Tensor;
using shard::Cover;
using shard::Move;
using shard::ReshardPlan;

namespace {

/// Of a rank's tokens, up to which each run of them is rotated as it is sent: a zigzag has two.
constexpr std::size_t kMostRuns = 2;

Cover tokens_of(const Pass& pass) {
  const SequenceShard* shard = pass.shard();
  return shard == nullptr ? Cover::even(pass.tokens(), 1) : shard->layout.within(shard->place());
}

comm::Communicator* group_of(const Pass& pass) {
  return pass.shard() == nullptr ? nullptr : pass.shard()->ulysses;
}

}  // namespace

Ulysses::Ulysses(const AttentionSizes& sizes, const Pass& pass)
    : sizes_(sizes),
      backend_(&pass.backend()),
      group_(group_of(pass)),
      rank_(is_alone() ? 0 : group_->rank()),
      head_cover_(Cover::even(sizes.heads, is_alone() ? 1 : group_->size())),
      kv_head_cover_(Cover::of_kv_heads(head_cover_, sizes.kv_heads)),
      token_cover_(tokens_of(pass)),
      runs_(head_cover_.range(rank_), sizes.heads / sizes.kv_heads) {}

Move Ulysses::q_to_heads() const {
  return {
      {token_cover_.extent(), sizes_.heads, sizes_.head_dim}, {0, token_cover_}, {1, head_cover_}};
}

Move Ulysses::kv_to_heads() const {
  return {{token_cover_.extent(), sizes_.kv_heads, sizes_.head_dim},
          {0, token_cover_},
          {1, kv_head_cover_}};
}

ReshardPlan Ulysses::qkv_plan() const {
  return {rank_, {q_to_heads(), kv_to_heads(), kv_to_heads()}};
}

/// To tokens: the other way round.
ReshardPlan Ulysses::attended_plan() const {
  Move move = q_to_heads();
  std::swap(move.from, move.to);
  return {rank_, {std::move(move)}};
}

Shape Ulysses::qkv_shape() const {
  return {token_cover_.extent(),
          (head_cover_.size(rank_) + 2 * kv_head_cover_.size(rank_)) * sizes_.head_dim};
}
Shape Ulysses::attended_shape() const {
  return {token_cover_.extent(), head_cover_.size(rank_) * sizes_.head_dim};
}
Shape Ulysses::lse_shape() const { return {head_cover_.size(rank_), token_cover_.extent()}; }

/// Of runs of this rank's heads, side by side, among `whole` of them.
SlotRow Ulysses::row_of(SlotKind kind, const std::vector<shard::Range>& heads, Index whole) const {
  SlotRow row{kind, sizes_.head_dim};
  if (is_alone()) return row;
  row.whole = whole * sizes_.head_dim;
  Index begin = 0;
  for (const shard::Range& run : heads) {
    const Index end = begin + run.size() * sizes_.head_dim;
    row.columns.push_back({begin, end, run.begin * sizes_.head_dim});
    begin = end;
  }
  return row;
}

SlotRow Ulysses::attended_row() const {
  return row_of(SlotKind::kAttentionOutput, {head_cover_.range(rank_)}, sizes_.heads);
}

/// Heads of keys are numbered on from those of queries, and of values from those.
SlotRow Ulysses::qkv_row() const {
  const shard::Range kv = kv_head_cover_.range(rank_);
  const auto from = [&kv](Index first) { return shard::Range{first + kv.begin, first + kv.end}; };
  const Index heads = sizes_.heads;
  const Index kv_heads = sizes_.kv_heads;
  return row_of(SlotKind::kAttentionQkv,
                {head_cover_.range(rank_), from(heads), from(heads + kv_heads)},
                heads + 2 * kv_heads);
}

Heads Ulysses::split(const Tensor& qkv) const {
  return split_heads(qkv, head_cover_.size(rank_), kv_head_cover_.size(rank_), sizes_.head_dim);
}

std::vector<Tensor> Ulysses::shared_heads(const Tensor& qkv) const {
  const Heads heads = split(qkv);
  return {heads.q, heads.k, heads.v};
}

std::vector<Tensor> Ulysses::local_heads(const Tensor& qkv) const {
  const Heads heads = split_heads(qkv, sizes_.heads, sizes_.kv_heads, sizes_.head_dim);
  return {heads.q, heads.k, heads.v};
}

Tensor Ulysses::as_heads(const Tensor& attended) const {
  return attended.reshape({attended.size(0), attended.size(1) / sizes_.head_dim, sizes_.head_dim});
}

/// Writers of q and k, which come first; none where they are rotated at once.
std::vector<shard::BlockWriter> Ulysses::rotating(const std::vector<Tensor>& local,
                                                  const Tensor& rope_table) const {
  if (!rope_table.defined()) return {};
  if (token_cover_.ranges(rank_).size() > kMostRuns) {
    for (std::size_t i = 0; i < 2; ++i) {
      backend_->rope(local[i], local[i], rope_table, /*inverse=*/false);
    }
    return {};
  }
  const auto rotate = [backend = backend_, rope_table](const Tensor& out, const Tensor& in,
                                                       backend::Index first_row) {
    backend->rope(out, in, rope_table.rows(first_row, first_row + in.size(0)), /*inverse=*/false);
  };
  return {rotate, rotate};
}

void Ulysses::qkv_to_heads(const Tensor& shared, const Tensor& local,
                           const Tensor& rope_table) const {
  const std::vector<Tensor> sources = local_heads(local);
  qkv_plan().run(shared_heads(shared), sources, *group_, *backend_, rotating(sources, rope_table));
}

void Ulysses::qkv_and_attended_to_heads(const Tensor& shared_qkv, const Tensor& shared_attended,
                                        const Tensor& local_qkv, const Tensor& local_attended,
                                        const Tensor& rope_table) const {
  std::vector<Tensor> targets = shared_heads(shared_qkv);
  std::vector<Tensor> sources = local_heads(local_qkv);
  targets.push_back(as_heads(shared_attended));
  sources.push_back(as_heads(local_attended));
  const ReshardPlan plan(rank_, {q_to_heads(), kv_to_heads(), kv_to_heads(), q_to_heads()});
  plan.run(targets, sources, *group_, *backend_, rotating(sources, rope_table));
}

void Ulysses::qkv_to_heads_adjoint(const Tensor& dlocal, const Tensor& dshared) const {
  qkv_plan().adjoint(local_heads(dlocal), shared_heads(dshared), *group_, *backend_);
}

void Ulysses::attended_to_tokens(const Tensor& local, const Tensor& shared) const {
  attended_plan().run({as_heads(local)}, {as_heads(shared)}, *group_, *backend_);
}

void Ulysses::attended_to_tokens_adjoint(const Tensor& dshared, const Tensor& dlocal) const {
  attended_plan().adjoint({as_heads(dshared)}, {as_heads(dlocal)}, *group_, *backend_);
}

}  // namespace longspan::nn
