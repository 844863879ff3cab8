#include "longspan/nn/mini_sequence.h"

#include <catch2/catch.hpp>

#include "longspan/base/error.h"

namespace longspan::nn {
namespace {

using backend::Index;

void check_cover(const Ranges& ranges, Index tokens) {
  Index next = 0;
  for (Index i = 0; i < ranges.count; ++i) {
    const Index size = ranges.end(i) - ranges.begin(i);
    const bool is_even = size == ranges.longest() || size == ranges.longest() - 1;
    if (ranges.begin(i) != next || size < 1 || !is_even) {
      FAIL("range " << i << " of " << ranges.count << " over " << tokens << " tokens");
    }
    next = ranges.end(i);
  }
  REQUIRE(next == tokens);
}

TEST_CASE("mini_sequence: any count over any length covers every token once, evenly") {
  for (Index tokens = 0; tokens <= 70; ++tokens) {
    for (Index count = 1; count <= 75; ++count) {
      const Ranges ranges = MiniSequence::count(count).split(tokens, 100);
      CHECK(ranges.count == std::min(count, tokens));
      check_cover(ranges, tokens);
    }
  }
}

TEST_CASE("mini_sequence: a budget bounds a range, and its size does not grow with the sequence") {
  const MiniSequence budget = MiniSequence::budget(1000);
  for (const Index tokens : {1, 9, 10, 11, 99, 100, 1001, 123457}) {
    const Ranges ranges = budget.split(tokens, 100);
    check_cover(ranges, tokens);
    CHECK(ranges.longest() <= 10);
    CHECK(ranges.longest() > std::min<Index>(tokens, 10) / 2);
  }
  // Less than a token's need: one token at a time, or the least that was asked for.
  CHECK(budget.split(5, 4000).count == 5);
  CHECK(MiniSequence::budget(1000, 512).split(2048, 4000).longest() == 512);
}

TEST_CASE("mini_sequence: ranges of sequences beyond 2^31 / count are exact") {
  const Index tokens = (Index{1} << 31) - 1;
  const Ranges ranges = MiniSequence::count(1000003).split(tokens, 1);
  CHECK(ranges.end(ranges.count - 1) == tokens);
  CHECK(ranges.begin(ranges.count - 1) < tokens);
  CHECK_THROWS_AS(MiniSequence::count(0), base::InternalError);
  CHECK_THROWS_AS(MiniSequence::budget(0), base::InternalError);
}

}  // namespace
}  // namespace longspan::nn
