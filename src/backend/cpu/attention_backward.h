#pragma once

#include "backend/cpu/attention_tiles.h"

namespace longspan::backend::cpu {

/// Arguments of one backward call, as in Backend::attention_backward.
struct AttentionBackward {
  const Tensor& dq;
  const Tensor& dk;
  const Tensor& dv;
  const Tensor& dout;
  const Tensor& out;
  const Tensor& lse;
  const Tensor& q;
  const Tensor& k;
  const Tensor& v;
  const AttentionOptions& options;

  Index head_dim() const { return q.size(2); }
  Index group() const { return q.size(1) / k.size(1); }
};

/// One thread's scratch for the backward of documents of at most `queries` and `keys` tokens.
/// `sums` (from the backend's allocator, `elements` of them) holds the float32 sums of dQ^T, dK,
/// dV.
template <typename T>
struct BackwardScratch {
  using Acc = Compute<T>;

  BackwardScratch(Index head_dim, Index queries, Index keys, Acc* sums);
  static Index elements(Index head_dim, Index queries, Index keys);

  std::vector<T> q, dout, k, v, k_transposed, probabilities, dscores;
  std::vector<Acc> scores, dprobabilities;
  std::vector<Acc> slopes;      ///< of a soft cap; empty without one
  std::vector<Acc> lse, delta;  ///< of one document and head, padded to whole tiles
  Acc* dq_transposed;           ///< [head_dim, queries padded]
  Acc* dk;                      ///< [keys padded, head_dim]
  Acc* dv;                      ///< [keys padded, head_dim]
};

/// One document and KV head with all query heads that read it.
template <typename T>
void attention_backward_group(const AttentionBackward& call, const Document& document,
                              Index kv_head, TileMatmul& matmul, BackwardScratch<T>& scratch);

}  // namespace longspan::backend::cpu
