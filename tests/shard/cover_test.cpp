#include "longspan/shard/cover.h"

#include <catch2/catch.hpp>

#include "longspan/base/error.h"

namespace longspan::shard {
namespace {

using Lists = std::vector<std::vector<Range>>;

TEST_CASE("cover: even shares differ by one index and may be empty") {
  for (Index extent = 0; extent <= 17; ++extent) {
    for (int ranks = 1; ranks <= 6; ++ranks) {
      const Cover cover = Cover::even(extent, ranks);
      CHECK(cover.is_partition());
      for (int rank = 0; rank < ranks; ++rank) {
        CHECK(cover.size(rank) - extent / ranks <= 1);
        CHECK(cover.size(rank) >= extent / ranks);
      }
    }
  }
  CHECK(Cover::even(2, 4) == Cover(2, Lists{{{0, 1}}, {{1, 2}}, {}, {}}));
}

TEST_CASE("cover: zigzag pairs an early chunk with a late one") {
  const Cover cover = Cover::zigzag(8, 2);
  CHECK(cover == Cover(8, Lists{{{0, 2}, {6, 8}}, {{2, 4}, {4, 6}}}));
  CHECK(cover.local(0, 7) == 3);
  CHECK_THROWS_AS(cover.local(0, 3), base::InternalError);
  for (Index extent = 0; extent < 20; ++extent) CHECK(Cover::zigzag(extent, 3).is_partition());
  // Causal work (a query sees all before it) is the same for every rank where chunks are.
  for (int ranks = 1; ranks <= 4; ++ranks) {
    const Index extent = 8 * ranks;
    const Cover even_chunks = Cover::zigzag(extent, ranks);
    for (int rank = 0; rank < ranks; ++rank) {
      Index pairs = 0;
      for (const Range& range : even_chunks.ranges(rank)) {
        for (Index query = range.begin; query < range.end; ++query) pairs += query + 1;
      }
      CHECK(pairs * ranks == extent * (extent + 1) / 2);
    }
  }
}

TEST_CASE("cover: key-value heads follow the query heads that read them") {
  // 8 heads read 2 key-value heads; 4 ranks: each key-value head is held twice.
  CHECK(Cover::of_kv_heads(Cover::even(8, 4), 2) ==
        Cover(2, Lists{{{0, 1}}, {{0, 1}}, {{1, 2}}, {{1, 2}}}));
  // 7 heads over 3 ranks with 7 key-value heads: the same as the heads.
  CHECK(Cover::of_kv_heads(Cover::even(7, 3), 7) == Cover::even(7, 3));
  // A rank's share that crosses a group's edge needs both.
  CHECK(Cover::of_kv_heads(Cover::even(6, 4), 2) ==
        Cover(2, Lists{{{0, 1}}, {{0, 2}}, {{1, 2}}, {{1, 2}}}));
  // Two ranges of one rank that read the same head hold it once.
  CHECK(Cover::of_kv_heads(Cover(6, Lists{{{0, 1}, {2, 3}}, {{1, 2}, {3, 6}}}), 2) ==
        Cover(2, Lists{{{0, 1}}, {{0, 1}, {1, 2}}}));
  CHECK_THROWS_AS(Cover::of_kv_heads(Cover::even(7, 2), 2), base::InternalError);
  CHECK_THROWS_AS(Cover::of_kv_heads(Cover(8, Lists{{{4, 6}, {0, 2}}}), 4), base::InternalError);
}

TEST_CASE("cover: what is illegal is refused, what overlaps is no partition") {
  CHECK_THROWS_AS(Cover(4, Lists{{{0, 5}}}), base::InternalError);
  CHECK_THROWS_AS(Cover(4, Lists{{{2, 1}}}), base::InternalError);
  CHECK_THROWS_AS(Cover(4, Lists{{{-1, 1}}}), base::InternalError);
  CHECK_THROWS_AS(Cover(4, Lists{{{0, 2}, {1, 3}}}), base::InternalError);
  CHECK_THROWS_AS(Cover(4, Lists{}), base::InternalError);
  CHECK_FALSE(Cover::replicated(4, 2).is_partition());
  CHECK(Cover::replicated(4, 1).is_partition());
  CHECK_FALSE(Cover(4, Lists{{{0, 1}}, {{2, 4}}}).is_partition());
  CHECK(Cover(4, Lists{{{2, 4}}, {{0, 2}}}).is_partition());
}

}  // namespace
}  // namespace longspan::shard
