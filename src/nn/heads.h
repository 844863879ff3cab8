#pragma once

#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/shard/cover.h"

namespace longspan::nn {

/// Queries, keys and values, each [tokens, its heads, head_dim].
struct Heads {
  backend::Tensor q;
  backend::Tensor k;
  backend::Tensor v;
};

/// Views of a [tokens, (heads + 2 kv_heads) * head_dim] buffer.
Heads split_heads(const backend::Tensor& qkv, backend::Index heads, backend::Index kv_heads,
                  backend::Index head_dim);

/// Attention over the heads that one rank holds. Wherever its range of query heads begins and ends,
/// it is cut into runs in which every key-value head has as many query heads, as the backend wants.
class HeadRuns {
 public:
  /// Query heads [heads.begin, heads.end) of the model, `group` of which share a key-value head;
  /// with them goes every key-value head that they read.
  HeadRuns(shard::Range heads, backend::Index group);

  /// As Backend::attention_forward and attention_backward.
  void forward(backend::Backend& backend, const backend::Tensor& out, const backend::Tensor& lse,
               const Heads& in, const backend::CuSeqlens& cu_seqlens_q,
               const backend::CuSeqlens& cu_seqlens_k,
               const backend::AttentionOptions& options) const;
  void backward(backend::Backend& backend, const Heads& d, const backend::Tensor& dout,
                const backend::Tensor& out, const backend::Tensor& lse, const Heads& in,
                const backend::CuSeqlens& cu_seqlens_q, const backend::CuSeqlens& cu_seqlens_k,
                const backend::AttentionOptions& options) const;

 private:
  struct Run {
    shard::Range q;   // of the rank's query heads
    shard::Range kv;  // of its key-value heads
  };
  static backend::Tensor of(const backend::Tensor& heads, const shard::Range& range);
  static Heads of(const Heads& heads, const Run& run);

  std::vector<Run> runs_;
};

}  // namespace longspan::nn
