#pragma once

#include <vector>

#include "longspan/shard/cover.h"

namespace longspan::shard {

/// How many ranks share the tokens of a row, in two ways: `ulysses` neighbours hold all tokens of a
/// part between them and exchange them for heads; `ring` such parts pass keys and values around
/// (USP, Fang & Zhao 2024).
struct SequenceDegrees {
  int ulysses = 1;
  int ring = 1;

  int ranks() const { return ulysses * ring; }
  bool operator==(const SequenceDegrees&) const = default;
};

/// Which tokens of a row each rank of a sequence group holds. The row is cut into parts, one for
/// each place of the ring, and a part among its Ulysses ranks. Rank ring * ulysses_degree +
/// ulysses. Lengths need not divide, and ranks may hold nothing.
class TokenLayout {
 public:
  /// Zigzag parts, so that causal attention is the same work for each; a part is cut evenly.
  TokenLayout(Index tokens, SequenceDegrees degrees);
  /// Ranks that hold these tokens of the row (a partition) are all Ulysses ranks of one part, or
  /// all places of a ring.
  static TokenLayout of_ulysses(Cover tokens);
  static TokenLayout of_ring(Cover tokens);

  Index tokens() const { return parts_.extent(); }
  const SequenceDegrees& degrees() const { return degrees_; }
  /// The row over the places of the ring.
  const Cover& parts() const { return parts_; }
  /// A part's own indices [0, size of the part) over its Ulysses ranks.
  const Cover& within(int part) const { return within_[static_cast<std::size_t>(part)]; }
  /// What a rank of the group holds, as ranges of the row, in order.
  std::vector<Range> ranges(int rank) const;
  Index size(int rank) const;

 private:
  TokenLayout(SequenceDegrees degrees, Cover parts, std::vector<Cover> within);
  static std::vector<Cover> even(const Cover& parts, int ulysses);

  SequenceDegrees degrees_;
  Cover parts_;
  std::vector<Cover> within_;  ///< by part
};

}  // namespace longspan::shard
