#pragma once

#include <algorithm>
#include <cstdint>

#include "longspan/backend/tensor.h"

namespace longspan::comm {

/// How a vector is summed over ranks: piece by piece; of each piece every rank receives its own
/// share from all ranks, adds the shares in rank order, and sends the sum to all.
struct AllReduce {
  static constexpr backend::Index kShareBytes = backend::Index{1} << 20;

  AllReduce(backend::Index elements, base::DType dtype, int ranks)
      : elements(elements),
        element_bytes(static_cast<backend::Index>(base::size_of(dtype))),
        ranks(ranks) {
    const backend::Index whole_share = (elements + ranks - 1) / ranks;
    piece = std::min(kShareBytes / element_bytes, std::max<backend::Index>(whole_share, 1)) * ranks;
  }

  /// Elements of rank `rank`'s share of a piece of `size` elements begin here.
  backend::Index share_begin(int rank, backend::Index size) const {
    return std::min((size + ranks - 1) / ranks * rank, size);
  }
  /// Bytes that a rank sends to each other rank in turn, and then its sum to all, for one piece.
  std::uint64_t bytes_sent(int rank, backend::Index size) const {
    const backend::Index mine = share_begin(rank + 1, size) - share_begin(rank, size);
    return static_cast<std::uint64_t>((size - mine + mine * (ranks - 1)) * element_bytes);
  }

  backend::Index elements;
  backend::Index element_bytes;
  int ranks;
  backend::Index piece;  ///< elements of a piece, and of its staging buffer
};

}  // namespace longspan::comm
