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

/// Which tokens of a row each rank of a sequence group holds. The row is cut into zigzag parts, one
/// for each place of the ring, so that causal attention is the same work for each; a part is cut
/// evenly among its Ulysses ranks. Rank ring * ulysses_degree + ulysses. Lengths need not divide,
/// and ranks may hold nothing.
class TokenLayout {
 public:
  TokenLayout(Index tokens, SequenceDegrees degrees);

  Index tokens() const { return parts_.extent(); }
  const SequenceDegrees& degrees() const { return degrees_; }
  /// The row over the places of the ring.
  const Cover& parts() const { return parts_; }
  /// A part's own indices [0, size of the part) over its Ulysses ranks.
  Cover within(int part) const;
  /// What a rank of the group holds, as ranges of the row, in order.
  std::vector<Range> ranges(int rank) const;
  Index size(int rank) const;

 private:
  SequenceDegrees degrees_;
  Cover parts_;
};

}  // namespace longspan::shard
