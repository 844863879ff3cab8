#pragma once

#include <vector>

#include "longspan/backend/tensor.h"

namespace longspan::shard {

using backend::Index;

/// Indices [begin, end) of an axis.
struct Range {
  Index begin = 0;
  Index end = 0;

  Index size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

/// Which index ranges of one axis each rank of a group holds. A rank's part of a tensor is its
/// ranges one after another, in the order listed (zigzag lists two). Ranks may hold nothing,
/// unequal amounts, or, as with key-value heads that several ranks need, the same indices; one
/// rank's ranges do not overlap. An index may also be held by nobody.
class Cover {
 public:
  /// Throws InternalError for ranges outside [0, extent), or that overlap within a rank. Empty
  /// ranges are dropped.
  Cover(Index extent, std::vector<std::vector<Range>> by_rank);

  /// One range a rank, in rank order, equal but for one index; the last ranks hold nothing when
  /// there are more ranks than indices.
  static Cover even(Index extent, int ranks);
  /// Every rank holds everything.
  static Cover replicated(Index extent, int ranks);
  /// Rank k holds chunks k and 2n-1-k of 2n equal ones (but for one index): causal attention over
  /// an axis sharded so is the same work for every rank.
  static Cover zigzag(Index extent, int ranks);
  /// The key-value heads that each rank's query heads read, when query head h reads key-value head
  /// h / (heads / kv_heads) (Ainslie et al. 2023): several ranks hold one where heads are shared.
  /// A rank's heads must ascend.
  static Cover of_kv_heads(const Cover& heads, Index kv_heads);

  Index extent() const { return extent_; }
  int ranks() const { return static_cast<int>(by_rank_.size()); }
  const std::vector<Range>& ranges(int rank) const {
    return by_rank_[static_cast<std::size_t>(rank)];
  }
  /// The range that a rank holds, of a cover that gives each one at most; empty: none.
  Range range(int rank) const { return ranges(rank).empty() ? Range{} : ranges(rank).front(); }
  /// Indices that a rank holds.
  Index size(int rank) const;
  /// Where in its part a rank holds this index of the axis; it must hold it.
  Index local(int rank, Index index) const;
  /// Whether every index is held exactly once.
  bool is_partition() const;
  bool operator==(const Cover&) const = default;

 private:
  Index extent_;
  std::vector<std::vector<Range>> by_rank_;
};

}  // namespace longspan::shard
