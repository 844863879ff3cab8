#pragma once

#include <algorithm>
#include <cstdint>

#include "longspan/comm/communicator.h"

namespace longspan::comm {

/// How a vector is summed over ranks, each of which gets its share of the sum: slice by slice every
/// rank receives that slice of its share from all ranks, itself among them, and adds them in rank
/// order.
struct ReduceScatter {
  static constexpr backend::Index kSliceBytes = backend::Index{1} << 20;

  ReduceScatter(const Offsets& offsets, base::DType dtype)
      : ranks(static_cast<backend::Index>(offsets.size()) - 1) {
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      longest_share = std::max(longest_share, offsets[i + 1] - offsets[i]);
    }
    const auto element = static_cast<backend::Index>(base::size_of(dtype));
    slice = std::min(kSliceBytes / element, longest_share);
  }

  backend::Index staging() const { return ranks * slice; }

  backend::Index ranks;
  backend::Index longest_share = 0;
  backend::Index slice = 0;  ///< elements
};

/// Bytes that `rank` sends when every other rank gets its share of it, and when its share goes to
/// every other rank.
inline std::uint64_t bytes_to_share(const Offsets& offsets, int rank, base::DType dtype) {
  const auto at = static_cast<std::size_t>(rank);
  const backend::Index own = offsets[at + 1] - offsets[at];
  return static_cast<std::uint64_t>(offsets.back() - own) * base::size_of(dtype);
}
inline std::uint64_t bytes_to_gather(const Offsets& offsets, int rank, base::DType dtype) {
  const auto at = static_cast<std::size_t>(rank);
  const auto others = static_cast<backend::Index>(offsets.size()) - 2;
  return static_cast<std::uint64_t>((offsets[at + 1] - offsets[at]) * others) *
         base::size_of(dtype);
}

}  // namespace longspan::comm
