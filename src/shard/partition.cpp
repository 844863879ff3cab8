#include "longspan/shard/partition.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::shard {

namespace {

using Cut = Partition::Cut;

void check_cuts(const std::vector<Cut>& cuts) {
  bool is_legal = cuts.empty() || cuts.front().begin == 0;
  for (std::size_t i = 0; is_legal && i < cuts.size(); ++i) {
    const Index each = cuts[i].each;
    is_legal = (i == 0 || cuts[i - 1].begin <= cuts[i].begin) &&
               (each == 1 || (each > 0 && each % Partition::kAlignment == 0));
  }
  if (is_legal) return;
  throw base::InternalError(
      fmt::format("partition: {} cuts do not rise from 0, or are no multiple of {} elements apart",
                  cuts.size(), Partition::kAlignment));
}

/// The last place not behind `element` at which the unit may be cut; its end stays its end.
Index cut_before(Index element, const Range& unit, const std::vector<Cut>& cuts) {
  if (element >= unit.end) return unit.end;
  if (cuts.empty()) return element;
  const auto after = std::upper_bound(cuts.begin(), cuts.end(), element,
                                      [](Index at, const Cut& cut) { return at < cut.begin; });
  const Cut& cut = *std::prev(after);
  return std::max(unit.begin, cut.begin + (element - cut.begin) / cut.each * cut.each);
}

}  // namespace

Partition::Partition(std::vector<Index> begins, int ranks, int rank, const std::vector<Cut>& cuts)
    : Partition(ranks, rank) {
  begins_ = std::move(begins);
  check_begins();
  check_cuts(cuts);
  Index alignment = kAlignment;
  for (const Cut& cut : cuts) alignment = std::max(alignment, cut.each);
  for (int number = 0; number < units(); ++number) {
    const Range whole = unit(number);
    const Index chunks = (whole.size() + alignment - 1) / alignment;
    const Index most = (chunks + ranks_ - 1) / ranks_ * alignment;
    comm::Offsets offsets{0};
    for (int end = 1; end <= ranks_; ++end) {
      offsets.push_back(cut_before(whole.begin + end * most, whole, cuts) - whole.begin);
    }
    pieces_.push_back(std::move(offsets));
  }
  store();
}

Partition Partition::image(const std::function<Index(Index)>& place) const {
  Partition image(ranks_, rank_);
  for (const Index begin : begins_) image.begins_.push_back(place(begin));
  image.check_begins();
  for (int number = 0; number < units(); ++number) {
    const Index begin = unit(number).begin;
    comm::Offsets offsets;
    for (const Index offset : this->offsets(number)) {
      offsets.push_back(place(begin + offset) - image.unit(number).begin);
    }
    image.pieces_.push_back(std::move(offsets));
  }
  image.store();
  return image;
}

void Partition::check_begins() const {
  bool is_legal = begins_.size() >= 2 && begins_.front() == 0 && rank_ >= 0 && rank_ < ranks_;
  for (std::size_t i = 1; is_legal && i < begins_.size(); ++i) {
    const bool is_end = i + 1 == begins_.size();
    is_legal = begins_[i - 1] < begins_[i] && (is_end || begins_[i] % kAlignment == 0);
  }
  if (is_legal) return;
  throw base::InternalError(
      fmt::format("partition: {} bounds of units for rank {} of {} do not rise from 0 in steps "
                  "of {} elements",
                  begins_.size(), rank_, ranks_, kAlignment));
}

void Partition::store() {
  stored_ = {0};
  for (int number = 0; number < units(); ++number) {
    stored_.push_back(stored_.back() + own(number).size());
  }
}

}  // namespace longspan::shard
