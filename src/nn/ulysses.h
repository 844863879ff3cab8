#pragma once

#include "longspan/nn/attention.h"
#include "longspan/shard/reshard.h"
#include "nn/heads.h"

namespace longspan::nn {

/// The two reshards of Ulysses attention (Jacobs et al. 2023), for one pass: of q, k and v from
/// this rank's tokens and all heads to all tokens of its part and its share of the heads, in one
/// exchange; and of what attention gives back again. Heads need not divide; key-value heads that
/// several ranks read go to each of them, and their gradients are summed where they come from.
class Ulysses {
 public:
  Ulysses(const AttentionSizes& sizes, const Pass& pass);

  /// Nothing is exchanged: tokens and heads are all this rank's.
  bool is_alone() const { return group_ == nullptr; }
  /// [tokens, q, k and v side by side], [tokens, heads * head_dim] and [heads, tokens] as attention
  /// sees them.
  backend::Shape qkv_shape() const;
  backend::Shape attended_shape() const;
  backend::Shape lse_shape() const;
  /// What of a row of all heads the first two are.
  SlotRow qkv_row() const;
  SlotRow attended_row() const;
  Heads split(const backend::Tensor& qkv) const;
  const HeadRuns& runs() const { return runs_; }

  /// Only when not alone. `local` are this rank's tokens, `shared` as attention sees them. q and k
  /// are rotated on their way, by the angles of this rank's tokens: a pass over them less; or,
  /// where these lie scattered, in `local` before. Without a table they go as they are.
  void qkv_to_heads(const backend::Tensor& shared, const backend::Tensor& local,
                    const backend::Tensor& rope_table) const;
  /// The same of an output that was kept as `attended`: once more to where attention gave it.
  void qkv_and_attended_to_heads(const backend::Tensor& shared_qkv,
                                 const backend::Tensor& shared_attended,
                                 const backend::Tensor& local_qkv,
                                 const backend::Tensor& local_attended,
                                 const backend::Tensor& rope_table) const;
  void qkv_to_heads_adjoint(const backend::Tensor& dlocal, const backend::Tensor& dshared) const;
  void attended_to_tokens(const backend::Tensor& local, const backend::Tensor& shared) const;
  void attended_to_tokens_adjoint(const backend::Tensor& dshared,
                                  const backend::Tensor& dlocal) const;

 private:
  /// Where q or the attended, and k or v, lie by tokens and by heads.
  shard::Move q_to_heads() const;
  shard::Move kv_to_heads() const;
  SlotRow row_of(SlotKind kind, const std::vector<shard::Range>& heads, backend::Index whole) const;
  shard::ReshardPlan qkv_plan() const;
  shard::ReshardPlan attended_plan() const;
  std::vector<backend::Tensor> local_heads(const backend::Tensor& qkv) const;
  std::vector<backend::Tensor> shared_heads(const backend::Tensor& qkv) const;
  std::vector<shard::BlockWriter> rotating(const std::vector<backend::Tensor>& local,
                                           const backend::Tensor& rope_table) const;
  backend::Tensor as_heads(const backend::Tensor& attended) const;

  AttentionSizes sizes_;
  backend::Backend* backend_;
  comm::Communicator* group_;  ///< null when alone
  int rank_;
  shard::Cover head_cover_;
  shard::Cover kv_head_cover_;
  shard::Cover token_cover_;  ///< of the part
  HeadRuns runs_;
};

}  // namespace longspan::nn
