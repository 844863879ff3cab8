#include "longspan/shard/token_layout.h"

#include <algorithm>
#include <utility>

namespace longspan::shard {

TokenLayout::TokenLayout(SequenceDegrees degrees, Cover parts, std::vector<Cover> within)
    : degrees_(degrees), parts_(std::move(parts)), within_(std::move(within)) {}

TokenLayout::TokenLayout(Index tokens, SequenceDegrees degrees)
    : degrees_(degrees),
      parts_(degrees.ring == 1 ? Cover::even(tokens, 1) : Cover::zigzag(tokens, degrees.ring)),
      within_(even(parts_, degrees.ulysses)) {}

TokenLayout TokenLayout::of_ulysses(Cover tokens) {
  const SequenceDegrees degrees{tokens.ranks(), 1};
  Cover whole = Cover::even(tokens.extent(), 1);
  return {degrees, std::move(whole), {std::move(tokens)}};
}

TokenLayout TokenLayout::of_ring(Cover tokens) {
  const SequenceDegrees degrees{1, tokens.ranks()};
  std::vector<Cover> within = even(tokens, 1);
  return {degrees, std::move(tokens), std::move(within)};
}

std::vector<Cover> TokenLayout::even(const Cover& parts, int ulysses) {
  std::vector<Cover> within;
  for (int part = 0; part < parts.ranks(); ++part) {
    within.push_back(Cover::even(parts.size(part), ulysses));
  }
  return within;
}

std::vector<Range> TokenLayout::ranges(int rank) const {
  const int part = rank / degrees_.ulysses;
  const Cover& shares = within(part);
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
