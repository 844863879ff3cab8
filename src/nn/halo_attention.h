#pragma once

#include <vector>

#include "longspan/nn/pass.h"
#include "longspan/shard/reshard.h"
#include "nn/heads.h"

namespace longspan::nn {

/// Attention with a window over tokens that the places of a ring share. A query sees no further
/// back than its window, so nothing goes around: each place is given, in one exchange, the keys and
/// values that its queries see beyond its own (the halo: at most window - 1 before each of its
/// ranges, and none of earlier documents), and the gradients of these go back the same way, where
/// they are summed.
class HaloAttention {
 public:
  /// The pass must have a shard, and outlive this; the options must have a window.
  HaloAttention(const HeadRuns& runs, const backend::AttentionOptions& options, Pass& pass);

  /// out [tokens of the part, heads, head_dim]; lse [heads, tokens].
  void forward(const backend::Tensor& out, const backend::Tensor& lse, const Heads& in) const;
  void backward(const Heads& d, const backend::Tensor& dout, const backend::Tensor& out,
                const backend::Tensor& lse, const Heads& in) const;

 private:
  /// One range of the place's tokens: its rows among them, and those of what it sees among the keys
  /// that the place is given.
  struct Visit {
    shard::Range queries;
    shard::Range keys;
    backend::CuSeqlens cu_seqlens_q;
    backend::CuSeqlens cu_seqlens_k;
  };
  /// Keys and values of a place, [own or given tokens, kv_heads, head_dim].
  struct Given {
    backend::Tensor k;
    backend::Tensor v;
  };

  /// The first token that the queries of a range see.
  shard::Index first_seen(const shard::Range& queries) const;
  shard::Cover halo() const;
  std::vector<Visit> visits() const;
  shard::ReshardPlan plan(const backend::Tensor& k) const;
  Given gather(const Heads& in) const;

  const HeadRuns* runs_;
  backend::AttentionOptions options_;
  Pass* pass_;
  const shard::Cover* parts_;
  comm::Communicator* ring_;
  shard::Cover halo_;
};

}  // namespace longspan::nn
