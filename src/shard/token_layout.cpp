#include "longspan/shard/token_layout.h"

#include <algorithm>

namespace longspan::shard {

TokenLayout::TokenLayout(Index tokens, SequenceDegrees degrees)
    : degrees_(degrees),
      parts_(degrees.ring == 1 ? Cover::even(tokens, 1) : Cover::zigzag(tokens, degrees.ring)) {}

Cover TokenLayout::within(int part) const {
  return Cover::even(parts_.size(part), degrees_.ulysses);
}

std::vector<Range> TokenLayout::ranges(int rank) const {
  const int part = rank / degrees_.ulysses;
  const Cover shares = within(part);
  std::vector<Range> ranges;
  for (const Range& share : shares.ranges(rank % degrees_.ulysses)) {
    Index before = 0;  // indices of the part in its earlier ranges
    for (const Range& range : parts_.ranges(part)) {
      const Index begin = range.begin + std::max<Index>(share.begin - before, 0);
      const Index end = range.begin + std::min(share.end - before, range.size());
      if (begin < end) ranges.push_back({begin, end});
      before += range.size();
    }
  }
  return ranges;
}

Index TokenLayout::size(int rank) const {
  return within(rank / degrees_.ulysses).size(rank % degrees_.ulysses);
}

}  // namespace longspan::shard
