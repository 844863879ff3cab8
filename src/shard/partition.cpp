#include "longspan/shard/partition.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::shard {

Partition::Partition(std::vector<Index> begins, int ranks, int rank, Cuts cuts)
    : begins_(std::move(begins)), stored_{0}, cuts_(std::move(cuts)), ranks_(ranks), rank_(rank) {
  bool is_legal = begins_.size() >= 2 && begins_.front() == 0 && rank >= 0 && rank < ranks;
  for (std::size_t i = 1; is_legal && i < begins_.size(); ++i) {
    const bool is_end = i + 1 == begins_.size();
    is_legal = begins_[i - 1] < begins_[i] && (is_end || begins_[i] % kAlignment == 0);
  }
  if (!is_legal) {
    throw base::InternalError(
        fmt::format("partition: {} bounds of units for rank {} of {} do not rise from 0 in steps "
                    "of {} elements",
                    begins_.size(), rank, ranks, kAlignment));
  }
  const bool cuts_are_legal =
      cuts_.each == 1 ||
      (cuts_.each > 0 && cuts_.each % kAlignment == 0 && !cuts_.begins.empty() &&
       cuts_.begins.front() == 0 && std::is_sorted(cuts_.begins.begin(), cuts_.begins.end()));
  if (!cuts_are_legal) {
    throw base::InternalError(
        fmt::format("partition: cuts each {} elements from {} places that do not rise from 0, or "
                    "are no multiple of {} elements apart",
                    cuts_.each, cuts_.begins.size(), kAlignment));
  }
  for (int number = 0; number < units(); ++number) {
    stored_.push_back(stored_.back() + own(number).size());
  }
}

/// The last place not behind `element` at which the unit may be cut; its end stays its end.
Index Partition::cut_before(Index element, const Range& unit) const {
  if (element >= unit.end) return unit.end;
  if (cuts_.each == 1) return element;
  const Index origin =
      *std::prev(std::upper_bound(cuts_.begins.begin(), cuts_.begins.end(), element));
  return std::max(unit.begin, origin + (element - origin) / cuts_.each * cuts_.each);
}

Range Partition::piece(int unit_number, int rank) const {
  const Range whole = unit(unit_number);
  const Index alignment = std::max(kAlignment, cuts_.each);
  const Index chunks = (whole.size() + alignment - 1) / alignment;
  const Index most = (chunks + ranks_ - 1) / ranks_ * alignment;
  return {cut_before(whole.begin + rank * most, whole),
          cut_before(whole.begin + (rank + 1) * most, whole)};
}

comm::Offsets Partition::offsets(int unit_number) const {
  const Index begin = unit(unit_number).begin;
  comm::Offsets offsets{0};
  for (int rank = 0; rank < ranks_; ++rank) offsets.push_back(piece(unit_number, rank).end - begin);
  return offsets;
}

}  // namespace longspan::shard
