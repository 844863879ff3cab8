#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "backend/cpu/tile_matmul.h"
#include "backend/cpu/vector_math.h"
#include "longspan/backend/backend.h"
#include "longspan/base/bfloat16.h"

// What the forward and the backward of attention share: tile sizes, the view of one head, and one
// thread's scratch.
namespace longspan::backend::cpu {

inline constexpr Index kQueryTile = 128;
inline constexpr Index kKeyTile = 256;

/// Tiles are padded to few sizes, so that few primitives are ever made.
inline Index padded_size(Index count, Index most) {
  Index size = 32;
  while (size < count) size *= 2;
  return std::min(size, most);
}

/// Rows of one head of a [tokens, heads, head_dim] tensor.
template <typename T>
struct HeadView {
  T* data;
  Index stride;

  HeadView(const Tensor& tensor, Index first_row, Index head)
      : data(tensor.data<std::remove_const_t<T>>() + first_row * tensor.row_stride() +
             head * tensor.size(2)),
        stride(tensor.row_stride()) {}
  T* row(Index index) const { return data + index * stride; }
};

/// One document as attention sees it.
struct Document {
  Index q_begin, k_begin;
  Index queries, keys;

  /// Queries stand at the end of the keys: query i sees keys [first_key(i), visible(i)).
  Index visible(Index query, bool causal) const {
    return causal ? std::clamp<Index>(keys - queries + query + 1, 0, keys) : keys;
  }
  Index first_key(Index query, const AttentionOptions& options) const {
    if (options.window == 0) return 0;
    const Index end = keys - queries + query + 1;
    return std::clamp<Index>(end - options.window, 0, visible(query, options.causal));
  }
  /// The queries that see key `key`: [first_query, end_query), empty if the one is not below the
  /// other.
  Index first_query(Index key, bool causal) const {
    return causal ? std::clamp<Index>(key - (keys - queries), 0, queries) : 0;
  }
  Index end_query(Index key, const AttentionOptions& options) const {
    if (options.window == 0) return queries;
    return std::clamp<Index>(key - (keys - queries) + options.window, 0, queries);
  }
};

inline std::vector<Document> documents_of(const CuSeqlens& q, const CuSeqlens& k) {
  std::vector<Document> documents;
  for (std::size_t i = 0; i + 1 < q.size(); ++i) {
    documents.push_back({q[i], k[i], q[i + 1] - q[i], k[i + 1] - k[i]});
  }
  return documents;
}

/// Rows [begin, begin + size) of a head; rows from `end` on are zeros in a copy in `scratch`
/// (size * head_dim elements).
template <typename T>
Tile<const T> padded_rows(const HeadView<const T>& head, Index begin, Index end, Index size,
                          Index head_dim, T* scratch) {
  if (begin + size <= end) return {head.row(begin), head.stride};
  const auto row_bytes = static_cast<std::size_t>(head_dim) * sizeof(T);
  for (Index i = 0; i < size; ++i) {
    T* row = scratch + i * head_dim;
    if (begin + i < end) {
      std::memcpy(row, head.row(begin + i), row_bytes);
    } else {
      std::memset(row, 0, row_bytes);
    }
  }
  return {scratch, head_dim};
}

}  // namespace longspan::backend::cpu
