#include "longspan/shard/partition.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::shard {

Partition::Partition(std::vector<Index> begins, int ranks, int rank)
    : begins_(std::move(begins)), stored_{0}, ranks_(ranks), rank_(rank) {
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
  for (int number = 0; number < units(); ++number) {
    stored_.push_back(stored_.back() + own(number).size());
  }
}

Range Partition::piece(int unit_number, int rank) const {
  const Range whole = unit(unit_number);
  const Index chunks = (whole.size() + kAlignment - 1) / kAlignment;
  const Index most = (chunks + ranks_ - 1) / ranks_ * kAlignment;
  return {std::min(whole.begin + rank * most, whole.end),
          std::min(whole.begin + (rank + 1) * most, whole.end)};
}

comm::Offsets Partition::offsets(int unit_number) const {
  const Index begin = unit(unit_number).begin;
  comm::Offsets offsets{0};
  for (int rank = 0; rank < ranks_; ++rank) offsets.push_back(piece(unit_number, rank).end - begin);
  return offsets;
}

}  // namespace longspan::shard
