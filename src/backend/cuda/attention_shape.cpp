#include "backend/cuda/attention_shape.h"

#include <fmt/format.h>

#include <algorithm>

#include "backend/cuda_scratch.h"

namespace longspan::backend::cuda {
namespace {

/// No longer than all tokens together.
Index longest_step(Index longest, Index tokens) {
  return std::min(std::max(rounded_documents(longest), rounded_tokens(0)), tokens);
}

}  // namespace

AttentionShape AttentionShape::of_equal_documents(Index heads, Index kv_heads, Index head_dim,
                                                  Index documents, Index length) {
  AttentionShape shape;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.head_dim = head_dim;
  shape.documents = documents;
  shape.longest_q = shape.longest_k = length;
  shape.tokens_q = shape.tokens_k = documents * length;
  shape.q_stride = shape.out_stride = shape.dout_stride = heads * head_dim;
  shape.k_stride = shape.v_stride = kv_heads * head_dim;
  return shape;
}

AttentionShape rounded(const AttentionShape& shape, AttentionDirection direction) {
  AttentionShape like = shape;
  like.dense_gradients = true;
  if (direction == AttentionDirection::kForward) {
    like.dout_stride = 0;
    like.deterministic = true;
  }
  like.more_queries = shape.causal && shape.more_queries;
  like.unequal = (shape.causal || shape.window > 0) && shape.unequal;
  like.documents = rounded_documents(shape.documents);
  like.tokens_q = rounded_tokens(shape.tokens_q);
  like.tokens_k = rounded_tokens(shape.tokens_k);
  like.longest_q = longest_step(shape.longest_q, like.tokens_q);
  like.longest_k = longest_step(shape.longest_k, like.tokens_k);
  return like;
}

std::string describe(const AttentionShape& shape, AttentionDirection direction) {
  const bool forward = direction == AttentionDirection::kForward;
  std::string text = fmt::format(
      "{} {}, {}/{} heads of {}, {} documents of at most {} queries and {} keys",
      base::name_of(shape.dtype), forward ? "forward" : "backward", shape.heads, shape.kv_heads,
      shape.head_dim, shape.documents, shape.longest_q, shape.longest_k);
  if (shape.causal) text += ", causal";
  if (shape.window > 0) text += fmt::format(", window {}", shape.window);
  if (!forward && shape.deterministic) text += ", deterministic";
  return text;
}

AttentionBatch::AttentionBatch(const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k)
    : tokens_q(cu_seqlens_q.back()), tokens_k(cu_seqlens_k.back()) {
  for (std::size_t i = 0; i + 1 < cu_seqlens_q.size(); ++i) {
    const DocumentRows rows{cu_seqlens_q[i], cu_seqlens_q[i + 1] - cu_seqlens_q[i], cu_seqlens_k[i],
                            cu_seqlens_k[i + 1] - cu_seqlens_k[i]};
    if (rows.queries > 0 && rows.keys > 0) {
      attended.push_back(rows);
    } else if (rows.queries > 0 || rows.keys > 0) {
      left_out.push_back(rows);
    }
  }
}

void AttentionBatch::measure(AttentionShape& shape) const {
  shape.documents = static_cast<Index>(attended.size());
  shape.tokens_q = tokens_q;
  shape.tokens_k = tokens_k;
  shape.longest_q = shape.longest_k = 0;
  shape.unequal = shape.more_queries = false;
  for (const DocumentRows& rows : attended) {
    shape.longest_q = std::max(shape.longest_q, rows.queries);
    shape.longest_k = std::max(shape.longest_k, rows.keys);
    shape.unequal = shape.unequal || rows.queries != rows.keys;
    shape.more_queries = shape.more_queries || rows.queries > rows.keys;
  }
}

}  // namespace longspan::backend::cuda
