#pragma once

#include "backend/cpu/attention_tiles.h"

namespace longspan::backend::cpu {

/// Arguments of one forward call, as in Backend::attention_forward.
struct AttentionForward {
  const Tensor& out;
  const Tensor& lse;
  const Tensor& q;
  const Tensor& k;
  const Tensor& v;
  const AttentionOptions& options;

  Index head_dim() const { return q.size(2); }
  Index group() const { return q.size(1) / k.size(1); }
};

/// One thread's scratch for forward tiles.
template <typename T>
struct ForwardScratch {
  using Acc = Compute<T>;

  explicit ForwardScratch(Index head_dim)
      : q(static_cast<std::size_t>(kQueryTile * head_dim)),
        k(static_cast<std::size_t>(kKeyTile * head_dim)),
        v(static_cast<std::size_t>(kKeyTile * head_dim)),
        probabilities(static_cast<std::size_t>(kQueryTile * kKeyTile)),
        scores(static_cast<std::size_t>(kQueryTile * kKeyTile)),
        out(static_cast<std::size_t>(kQueryTile * head_dim)),
        maximum(kQueryTile),
        sum(kQueryTile) {}

  std::vector<T> q, k, v, probabilities;
  std::vector<Acc> scores, out, maximum, sum;
};

/// Queries [begin, begin + kQueryTile) of one document and head.
template <typename T>
void attention_forward_tile(const AttentionForward& call, const Document& document, Index head,
                            Index begin, TileMatmul& matmul, ForwardScratch<T>& scratch);

extern template void attention_forward_tile<float>(const AttentionForward&, const Document&, Index,
                                                   Index, TileMatmul&, ForwardScratch<float>&);
extern template void attention_forward_tile<double>(const AttentionForward&, const Document&, Index,
                                                    Index, TileMatmul&, ForwardScratch<double>&);
extern template void attention_forward_tile<base::BFloat16>(const AttentionForward&,
                                                            const Document&, Index, Index,
                                                            TileMatmul&,
                                                            ForwardScratch<base::BFloat16>&);

}  // namespace longspan::backend::cpu
