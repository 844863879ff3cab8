#pragma once

#include <cstddef>

#include "longspan/backend/tensor.h"
#include "longspan/base/host_device.h"

// Scratch memory of the cuda backend's own kernels. It depends on shapes and dtypes alone, never on
// the device, and is known in every build: `longspan plan` counts it.
namespace longspan::backend {

/// How a sum over rows, a column each, is divided: each block of rows sums its shares of one vector
/// (dweight of RMS norm, dbias of a product) or of two (dweight and dbias of layer norm); the
/// shares are added in order.
struct RowShares {
  Index rows_each;  ///< rows of a block
  Index blocks;
  Index vectors;  ///< 1 or 2
  Index columns;  ///< of a share: the width, rounded up so that every dtype's packs fit

  /// From one block's shares to the next one's.
  LONGSPAN_HOST_DEVICE Index pitch() const { return vectors * columns; }
  Index elements() const { return blocks * pitch(); }
};

RowShares row_shares(Index tokens, Index width, Index vectors);

/// Bytes that the backward takes for x [tokens, hidden] of this dtype.
std::size_t rms_norm_backward_scratch_bytes(base::DType dtype, Index tokens, Index hidden);
std::size_t layer_norm_backward_scratch_bytes(base::DType dtype, Index tokens, Index hidden);
/// The same for dy [tokens, width].
std::size_t bias_backward_scratch_bytes(base::DType dtype, Index tokens, Index width);

/// Elements that one block of threads adds up in `sum` and `sum_of_squares`.
inline constexpr Index kSumElements = 16384;
/// How a tensor is cut into pieces of at most about kSumElements, by its shape alone.
struct SumPieces {
  explicit SumPieces(const Tensor& in);
  Index count() const;

  Index rows = 0;       ///< 1 when the tensor is dense and taken as one row
  Index columns = 0;    ///< of each row
  Index rows_each = 1;  ///< rows of a piece
  Index cuts = 0;       ///< pieces side by side in a row
};
/// Of `sum` and `sum_of_squares`.
std::size_t sum_scratch_bytes(const Tensor& in);

/// Tokens that are sorted by id together, and those of one id that are added up together.
inline constexpr Index kSortTokens = 2048;
inline constexpr Index kSumTokens = 512;
inline constexpr Index kSortDigits = 256;
/// Where embedding_backward keeps what, in bytes from the start of its scratch.
struct EmbeddingBackwardScratch {
  EmbeddingBackwardScratch(Index tokens, Index hidden, base::DType dtype);

  std::size_t order, sorted;  ///< int32 [tokens] each: the tokens before and after a digit
  std::size_t counts;         ///< int32 [blocks of kSortTokens, kSortDigits]
  std::size_t starts;         ///< int32 [kSortDigits]
  std::size_t sums;           ///< float32 (float64) [blocks of kSumTokens, hidden]
  std::size_t bytes;
};

/// Where plain attention keeps what, likewise.
struct PlainAttentionScratch {
  static PlainAttentionScratch forward(const Tensor& q, const Tensor& k);
  static PlainAttentionScratch backward(const Tensor& q, const Tensor& k);

  std::size_t boundaries = 0;  ///< int32 [2, tokens + 1]: documents that are not empty
  std::size_t delta = 0;       ///< float32 (float64) [heads, queries]; of the backward
  std::size_t bytes = 0;
};

/// Tokens for which cuDNN's plans are made, so that a few serve all batches: at least a tile of
/// queries, else the next of eight steps between powers of two.
Index rounded_tokens(Index tokens);
/// Documents likewise: the next power of two.
Index rounded_documents(Index documents);
/// What cuDNN's workspace has for so many documents besides what is proportional to the tokens: at
/// most, of cuDNN 9.19 asked about every architecture.
std::size_t fast_attention_forward_workspace(Index rounded_documents);
std::size_t fast_attention_backward_tables(Index rounded_documents);

/// What attention of bfloat16 is expected to take for so many documents that have queries and keys:
/// a block each for tables of documents, statistics and cuDNN's own workspace, and three for
/// gradients where they are columns of one matrix (docs/cudnn-attention.md has where the figures
/// come from).
///
/// The backward takes up to 60 KiB a token, more than anything else that is there then; so it does
/// one part of the heads after another where it would take more than kMost, each part with all
/// queries of its key-value heads. Rows of so many bytes keep a GPU busy with one head.
struct FastAttentionScratch {
  static constexpr std::size_t kMost = std::size_t{256} << 20U;

  static FastAttentionScratch forward(const Tensor& q, Index documents);
  /// Of one part.
  static FastAttentionScratch backward(const Tensor& q, const Tensor& k, Index documents,
                                       bool dense_gradients);
  /// Divides the key-value heads.
  static Index parts(const Tensor& q, const Tensor& k, std::size_t most = kMost);

  std::size_t dq = 0;
  std::size_t dk_and_dv = 0;  ///< of each
  std::size_t lengths = 0;    ///< int32 [2, rounded documents]
  std::size_t offsets = 0;    ///< int64 [tensors, rounded documents + 1]
  std::size_t statistics = 0;
  std::size_t workspace = 0;
};

/// Bytes that cuBLASLt is given for its own use, once.
inline constexpr Index kMatmulWorkspace = Index{32} << 20;

}  // namespace longspan::backend
