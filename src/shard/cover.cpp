#include "longspan/shard/cover.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "longspan/base/error.h"

namespace longspan::shard {
namespace {

[[noreturn]] void refuse(const std::string& why) { throw base::InternalError("Cover: " + why); }

std::string text_of(const Range& range) { return fmt::format("[{}, {})", range.begin, range.end); }

void check_apart(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i - 1].end > ranges[i].begin) {
      refuse(
          fmt::format("{} and {} of one rank overlap", text_of(ranges[i - 1]), text_of(ranges[i])));
    }
  }
}

}  // namespace

Cover::Cover(Index extent, std::vector<std::vector<Range>> by_rank)
    : extent_(extent), by_rank_(std::move(by_rank)) {
  if (extent < 0 || by_rank_.empty()) refuse("no axis, or no ranks");
  for (std::vector<Range>& ranges : by_rank_) {
    for (const Range& range : ranges) {
      if (range.begin < 0 || range.end < range.begin || range.end > extent) {
        refuse(fmt::format("{} does not lie in an axis of {}", text_of(range), extent));
      }
    }
    std::erase_if(ranges, [](const Range& range) { return range.size() == 0; });
    check_apart(ranges);
  }
}

Cover Cover::even(Index extent, int ranks) {
  std::vector<std::vector<Range>> by_rank;
  const Index share = extent / ranks;
  const Index larger = extent % ranks;  // the first ranks take one more
  Index begin = 0;
  for (Index rank = 0; rank < ranks; ++rank) {
    const Index end = begin + share + (rank < larger ? 1 : 0);
    by_rank.push_back({{begin, end}});
    begin = end;
  }
  return {extent, std::move(by_rank)};
}

Cover Cover::replicated(Index extent, int ranks) {
  return {extent, std::vector<std::vector<Range>>(static_cast<std::size_t>(ranks), {{0, extent}})};
}

Cover Cover::zigzag(Index extent, int ranks) {
  const Cover chunks = even(extent, 2 * ranks);
  std::vector<std::vector<Range>> by_rank;
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<Range> two = chunks.ranges(rank);
    const auto& late = chunks.ranges(2 * ranks - 1 - rank);
    two.insert(two.end(), late.begin(), late.end());
    by_rank.push_back(std::move(two));
  }
  return {extent, std::move(by_rank)};
}

Cover Cover::of_kv_heads(const Cover& heads, Index kv_heads) {
  if (kv_heads < 1 || heads.extent() % kv_heads != 0) {
    refuse(fmt::format("{} key-value heads do not divide {} heads", kv_heads, heads.extent()));
  }
  const Index group = heads.extent() / kv_heads;
  std::vector<std::vector<Range>> by_rank;
  for (int rank = 0; rank < heads.ranks(); ++rank) {
    std::vector<Range> needed;
    for (const Range& range : heads.ranges(rank)) {
      Range kv{range.begin / group, (range.end - 1) / group + 1};
      if (!needed.empty() && kv.begin < needed.back().begin) {
        refuse(fmt::format("heads {} of rank {} come after later ones", text_of(range), rank));
      }
      // Two of a rank's ranges may read the same head: it is held once.
      if (!needed.empty() && kv.begin < needed.back().end) kv.begin = needed.back().end;
      if (kv.begin < kv.end) needed.push_back(kv);
    }
    by_rank.push_back(std::move(needed));
  }
  return {kv_heads, std::move(by_rank)};
}

Index Cover::size(int rank) const {
  Index size = 0;
  for (const Range& range : ranges(rank)) size += range.size();
  return size;
}

Index Cover::local(int rank, Index index) const {
  Index before = 0;
  for (const Range& range : ranges(rank)) {
    if (index >= range.begin && index < range.end) return before + index - range.begin;
    before += range.size();
  }
  refuse(fmt::format("rank {} does not hold index {}", rank, index));
}

bool Cover::is_partition() const {
  std::vector<Range> all;
  for (const auto& ranges : by_rank_) all.insert(all.end(), ranges.begin(), ranges.end());
  std::sort(all.begin(), all.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  Index next = 0;
  for (const Range& range : all) {
    if (range.begin != next) return false;
    next = range.end;
  }
  return next == extent_;
}

}  // namespace longspan::shard
