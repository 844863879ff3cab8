#pragma once

#include <algorithm>
#include <cstddef>

namespace longspan::comm {

/// Bytes of the longest message: the counts of MPI are ints.
inline constexpr std::size_t kLongestMessage = std::size_t{1} << 30U;

/// Calls visit(first byte, count) for parts of at most `longest` bytes, in order.
template <typename Visit>
void for_each_part(std::byte* data, std::size_t bytes, std::size_t longest, const Visit& visit) {
  for (std::size_t begin = 0; begin < bytes; begin += longest) {
    visit(data + begin, static_cast<int>(std::min(longest, bytes - begin)));
  }
}

}  // namespace longspan::comm
