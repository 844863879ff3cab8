#include "longspan/shard/token_layout.h"

#include <catch2/catch.hpp>

namespace longspan::shard {
namespace {

TEST_CASE("token layout: every token has one rank, and a rank's tokens ascend") {
  for (const Index tokens : {0, 1, 2, 3, 5, 7, 16, 33}) {
    for (const SequenceDegrees degrees :
         {SequenceDegrees{1, 1}, SequenceDegrees{3, 1}, SequenceDegrees{1, 3},
          SequenceDegrees{2, 2}, SequenceDegrees{4, 3}}) {
      INFO(tokens << " tokens, " << degrees.ulysses << " x " << degrees.ring);
      const TokenLayout layout(tokens, degrees);
      std::vector<std::vector<Range>> by_rank;
      for (int rank = 0; rank < degrees.ranks(); ++rank) {
        by_rank.push_back(layout.ranges(rank));
        Index held = 0;
        Index last = -1;
        for (const Range& range : by_rank.back()) {
          CHECK(range.begin > last);
          last = range.end - 1;
          held += range.size();
        }
        CHECK(held == layout.size(rank));
      }
      CHECK(Cover(tokens, by_rank).is_partition());
    }
  }
}

TEST_CASE("token layout: Ulysses alone cuts evenly; a ring takes an early and a late chunk") {
  CHECK(TokenLayout(10, {4, 1}).ranges(1) == std::vector<Range>{{3, 6}});
  const TokenLayout ring(16, {1, 2});
  CHECK(ring.ranges(0) == std::vector<Range>{{0, 4}, {12, 16}});
  CHECK(ring.ranges(1) == std::vector<Range>{{4, 8}, {8, 12}});
  const TokenLayout both(16, {2, 2});
  CHECK(both.ranges(0) == std::vector<Range>{{0, 4}});
  CHECK(both.ranges(1) == std::vector<Range>{{12, 16}});
  CHECK(both.ranges(3) == std::vector<Range>{{8, 12}});
}

TEST_CASE("token layout: of any cover, exchanged or around a ring") {
  const Cover row(9, {{{0, 2}, {4, 6}}, {}, {{2, 4}, {6, 9}}});
  const TokenLayout exchanged = TokenLayout::of_ulysses(row);
  CHECK(exchanged.degrees() == SequenceDegrees{3, 1});
  CHECK(exchanged.parts() == Cover::even(9, 1));
  CHECK(exchanged.within(0) == row);
  const TokenLayout ring = TokenLayout::of_ring(row);
  CHECK(ring.degrees() == SequenceDegrees{1, 3});
  CHECK(ring.parts() == row);
  CHECK(ring.within(2) == Cover::even(5, 1));
  for (int rank = 0; rank < 3; ++rank) {
    CHECK(exchanged.ranges(rank) == row.ranges(rank));
    CHECK(ring.ranges(rank) == row.ranges(rank));
    CHECK(exchanged.size(rank) == row.size(rank));
    CHECK(ring.size(rank) == row.size(rank));
  }
}

}  // namespace
}  // namespace longspan::shard
