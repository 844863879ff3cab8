#include "nn/ulysses.h"

namespace longspan::nn {

using backend::Index;
using backend::Shape;
using backend::Tensor;
using shard::Cover;
using shard::Layout;
using shard::Move;

/// What of the heads and tokens is this rank's.
struct Ulysses::Share {
  Cover heads;
  Cover kv_heads;
  Cover tokens;  // of the part
  int rank;

  shard::Range head_range() const {
    const auto& ranges = heads.ranges(rank);
    return ranges.empty() ? shard::Range{} : ranges.front();
  }
};

Ulysses::Share Ulysses::share_of(const AttentionSizes& sizes, const Pass& pass) {
  const SequenceShard* shard = pass.shard();
  const int ranks = shard == nullptr ? 1 : shard->layout.degrees().ulysses;
  const int rank = shard == nullptr ? 0 : shard->mesh->ulysses().rank();
  const Cover heads = Cover::even(sizes.heads, ranks);
  return {heads, Cover::of_kv_heads(heads, sizes.kv_heads),
          shard == nullptr ? Cover::even(pass.tokens(), 1)
                           : shard->layout.within(shard->mesh->ring().rank()),
          rank};
}

Ulysses::Ulysses(const AttentionSizes& sizes, const Pass& pass)
    : Ulysses(sizes, pass, share_of(sizes, pass)) {}

Ulysses::Ulysses(const AttentionSizes& sizes, const Pass& pass, const Share& share)
    : sizes_(sizes),
      backend_(&pass.backend()),
      tokens_(share.tokens.extent()),
      heads_(share.heads.size(share.rank)),
      kv_heads_(share.kv_heads.size(share.rank)),
      runs_(share.head_range(), sizes.heads / sizes.kv_heads) {
  if (share.heads.ranks() == 1) return;
  group_ = &pass.shard()->mesh->ulysses();
  const Layout by_token{0, share.tokens};
  const Layout by_head{1, share.heads};
  const Layout by_kv_head{1, share.kv_heads};
  const Shape q{tokens_, sizes.heads, sizes.head_dim};
  const Shape kv{tokens_, sizes.kv_heads, sizes.head_dim};
  std::vector<Move> to_heads{
      {q, by_token, by_head}, {kv, by_token, by_kv_head}, {kv, by_token, by_kv_head}};
  plans_.emplace_back(share.rank, to_heads);
  plans_.emplace_back(share.rank, std::vector<Move>{{q, by_head, by_token}});
  to_heads.push_back({q, by_token, by_head});
  plans_.emplace_back(share.rank, std::move(to_heads));
}

Shape Ulysses::qkv_shape() const { return {tokens_, (heads_ + 2 * kv_heads_) * sizes_.head_dim}; }
Shape Ulysses::attended_shape() const { return {tokens_, heads_ * sizes_.head_dim}; }
Shape Ulysses::lse_shape() const { return {heads_, tokens_}; }

Heads Ulysses::split(const Tensor& qkv) const {
  return split_heads(qkv, heads_, kv_heads_, sizes_.head_dim);
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

void Ulysses::qkv_to_heads(const Tensor& shared, const Tensor& local) const {
  plans_[0].run(shared_heads(shared), local_heads(local), *group_, *backend_);
}

void Ulysses::qkv_and_attended_to_heads(const Tensor& shared_qkv, const Tensor& shared_attended,
                                        const Tensor& local_qkv,
                                        const Tensor& local_attended) const {
  std::vector<Tensor> targets = shared_heads(shared_qkv);
  std::vector<Tensor> sources = local_heads(local_qkv);
  targets.push_back(as_heads(shared_attended));
  sources.push_back(as_heads(local_attended));
  plans_[2].run(targets, sources, *group_, *backend_);
}

void Ulysses::qkv_to_heads_adjoint(const Tensor& dlocal, const Tensor& dshared) const {
  plans_[0].adjoint(local_heads(dlocal), shared_heads(dshared), *group_, *backend_);
}

void Ulysses::attended_to_tokens(const Tensor& local, const Tensor& shared) const {
  plans_[1].run({as_heads(local)}, {as_heads(shared)}, *group_, *backend_);
}

void Ulysses::attended_to_tokens_adjoint(const Tensor& dshared, const Tensor& dlocal) const {
  plans_[1].adjoint({as_heads(dshared)}, {as_heads(dlocal)}, *group_, *backend_);
}

}  // namespace longspan::nn
