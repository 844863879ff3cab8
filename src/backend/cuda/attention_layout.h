#pragma once

#include <vector>

#include "backend/cuda/attention_shape.h"
#include "backend/cuda/queue.h"

// What lies between our layouts and cuDNN's: kernels of kernels/attention_layout.cu. All that they
// need of the documents travels as arguments of the launch, so that the host neither keeps memory
// alive for a copy nor waits for one.
namespace longspan::backend::cuda {

enum class TokenSide : std::uint8_t { kQueries, kKeys };

/// One row of the offsets table: where each document begins in a tensor whose tokens are `stride`
/// elements apart.
struct OffsetsOf {
  TokenSide side = TokenSide::kQueries;
  Index stride = 0;
};
inline constexpr int kMostOffsets = 9;

/// lengths int32 [2, documents]: queries and keys of each document. offsets int64 [tables,
/// documents + 1]: the first element of each document, and the end. The columns may be more than
/// there are documents: those have no tokens and lie at the end, as cuDNN wants it.
void write_document_tables(const Queue& queue, const Tensor& lengths, const Tensor& offsets,
                           const AttentionBatch& batch, const std::vector<OffsetsOf>& tables);

/// lse [heads, tokens] from stats [tokens, heads]; both float32.
void stats_to_lse(const Queue& queue, const Tensor& lse, const Tensor& stats);
/// The other way.
void lse_to_stats(const Queue& queue, const Tensor& stats, const Tensor& lse);
/// stats [documents, heads, longest] from lse, zeros behind each document. `lengths` is row 0 of
/// the lengths table, `begins` a row of offsets of stride 1.
void lse_to_padded_stats(const Queue& queue, const Tensor& stats, const Tensor& lse,
                         const Tensor& lengths, const Tensor& begins);

/// Zeros in the rows [tokens, heads, head_dim] (bfloat16) of the documents that were left out.
void clear_left_out(const Queue& queue, const Tensor& rows, const AttentionBatch& batch,
                    TokenSide side);
/// -inf in their columns of lse [heads, tokens].
void clear_left_out_lse(const Queue& queue, const Tensor& lse, const AttentionBatch& batch);

}  // namespace longspan::backend::cuda
