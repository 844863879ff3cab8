#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::backend::cuda {

enum class AttentionDirection : std::uint8_t { kForward, kBackward };

/// All that decides how an attention can be done; of the documents, no more than numbers.
struct AttentionShape {
  base::DType dtype = base::DType::kBFloat16;
  Index heads = 0;
  Index kv_heads = 0;
  Index head_dim = 0;
  Index documents = 0;  ///< those that have queries and keys
  Index longest_q = 0;  ///< most queries of a document
  Index longest_k = 0;
  Index tokens_q = 0;
  Index tokens_k = 0;
  Index q_stride = 0;  ///< elements from one token's row to the next one's
  Index k_stride = 0;
  Index v_stride = 0;
  Index out_stride = 0;
  Index dout_stride = 0;
  bool dense_gradients = true;  ///< dq, dk and dv have no gaps between rows
  bool aligned = true;          ///< all addresses are multiples of 16 bytes
  bool causal = true;
  bool unequal = false;       ///< some document has another number of keys than of queries
  bool more_queries = false;  ///< some document has more queries than keys
  Index window = 0;           ///< keys that a query sees at most, its own included; 0: no limit
  bool deterministic = true;

  auto operator<=>(const AttentionShape&) const = default;

  /// Of documents of one length each, in dense tensors: what plans and tests ask about.
  static AttentionShape of_equal_documents(Index heads, Index kv_heads, Index head_dim,
                                           Index documents, Index length);
};

/// The shape that stands for this one and its like, so that batches of packed documents, all of
/// which differ, share a few plans, each of which takes long to make. Documents and the longest
/// lengths become powers of two: they cost no more than blocks of threads that end at once.
/// Tokens, to which workspaces are proportional, go up by an eighth of a power of two at most. The
/// documents that are added have no tokens. What does not matter to a plan becomes the default.
AttentionShape rounded(const AttentionShape& shape, AttentionDirection direction);

/// "bf16 backward, 32/8 heads of 128, 4 documents of at most 4096 queries and 4096 keys, causal".
std::string describe(const AttentionShape& shape, AttentionDirection direction);

/// A document's rows.
struct DocumentRows {
  Index q_begin = 0;
  Index queries = 0;
  Index k_begin = 0;
  Index keys = 0;
};

/// The documents of a call, without those that have neither queries nor keys.
struct AttentionBatch {
  AttentionBatch(const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k);

  std::vector<DocumentRows> attended;  ///< with queries and keys
  /// With one of both: their outputs are zeros, and nobody need compute them.
  std::vector<DocumentRows> left_out;
  Index tokens_q = 0;
  Index tokens_k = 0;

  /// Writes what of a shape depends on the documents.
  void measure(AttentionShape& shape) const;
};

}  // namespace longspan::backend::cuda
