#pragma once

#include <cstddef>

#include "longspan/backend/tensor.h"

// Bytes of scratch memory that operations of the cuda backend take from its allocator while they
// run, one block each. Compiled in every build: plans count them too. None depends on data.
namespace longspan::backend {

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

}  // namespace longspan::backend
