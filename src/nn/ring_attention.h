#pragma once

#include <vector>

#include "longspan/nn/pass.h"
#include "nn/heads.h"

namespace longspan::nn {

/// Attention, causal or not, of the tokens that a place of the ring holds over those of all places
/// (Liu et al. 2023, "Ring Attention"; zigzag order after Zhu 2024): keys and values go around,
/// each place adds what its queries see of them. Partial results, each rounded to the dtype of
/// activations, are merged in float32 by their log-sum-exps. The backward uses the final output and
/// log-sum-exp for every block; the gradients of keys and values follow them around the ring in
/// float32, one place behind, until they are at home.
class RingAttention {
 public:
  /// The pass must have a shard, and outlive this.
  RingAttention(const HeadRuns& runs, const backend::AttentionOptions& options, Pass& pass);

  /// out [tokens of the part, heads, head_dim]; lse [heads, tokens].
  void forward(const backend::Tensor& out, const backend::Tensor& lse, const Heads& in) const;
  void backward(const Heads& d, const backend::Tensor& dout, const backend::Tensor& out,
                const backend::Tensor& lse, const Heads& in) const;

 private:
  /// Queries that see keys [0, keys) of a block, all in one call.
  struct Visit {
    shard::Range queries;
    backend::Index keys;
    backend::CuSeqlens cu_seqlens_q;
    backend::CuSeqlens cu_seqlens_k;
    bool causal;
  };
  class Block;
  class Circuit;
  std::vector<Visit> visits(int source) const;
  backend::AttentionOptions options_of(const Visit& visit) const;
  int source(int step) const;
  void add_gradients(const Block& gradient, const backend::Tensor& dq, const Visit& visit,
                     const Block& keys, const backend::Tensor& dout, const backend::Tensor& out,
                     const backend::Tensor& lse, const Heads& in) const;

  const HeadRuns* runs_;
  backend::AttentionOptions options_;
  Pass* pass_;
  const shard::Cover* parts_;
  comm::Communicator* ring_;
};

}  // namespace longspan::nn
