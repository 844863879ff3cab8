#include "longspan/shard/clip_layout.h"

#include <catch2/catch.hpp>

#include "longspan/base/error.h"

namespace longspan::shard {
namespace {

constexpr ClipAxis kAxes[] = {ClipAxis::kFrames, ClipAxis::kPlaces};

TEST_CASE("clips: every frame and every place is on one rank, in order") {
  const std::vector<ClipGrid> clips = GENERATE(
      std::vector<ClipGrid>{{1, 1}}, std::vector<ClipGrid>{{5, 7}, {2, 3}, {16, 1}, {1, 16}},
      std::vector<ClipGrid>{{3, 2}, {3, 2}}, std::vector<ClipGrid>{});
  for (int ranks = 1; ranks <= 6; ++ranks) {
    const ClipLayout layout(clips, ranks);
    for (const ClipAxis axis : kAxes) {
      Index all = 0;
      for (int rank = 0; rank < ranks; ++rank) all += layout.tokens(axis, rank);
      CHECK(all == layout.tokens());
      for (std::size_t clip = 0; clip < clips.size(); ++clip) {
        CHECK(layout.cover(clip, axis).is_partition());
        Index end = 0;
        for (int rank = 0; rank < ranks; ++rank) {
          for (const Range& range : layout.cover(clip, axis).ranges(rank)) {
            CHECK(range.begin == end);
            end = range.end;
          }
        }
      }
    }
  }
}

TEST_CASE("clips: a rank has its share of tokens but for one frame or place") {
  const std::vector<ClipGrid> clips{{40, 6}, {17, 11}, {9, 30}, {64, 2}};
  for (int ranks = 1; ranks <= 8; ++ranks) {
    const ClipLayout layout(clips, ranks);
    const double share = static_cast<double>(layout.tokens()) / ranks;
    for (int rank = 0; rank < ranks; ++rank) {
      CHECK(std::abs(static_cast<double>(layout.tokens(ClipAxis::kFrames, rank)) - share) <= 31);
      CHECK(std::abs(static_cast<double>(layout.tokens(ClipAxis::kPlaces, rank)) - share) <= 65);
    }
  }
}

TEST_CASE("clips: where there are more ranks than frames, packed clips still share") {
  // Two frames of each of four clips: eight in all.
  const ClipLayout layout({{2, 9}, {2, 9}, {2, 9}, {2, 9}}, 8);
  for (int rank = 0; rank < 8; ++rank) CHECK(layout.tokens(ClipAxis::kFrames, rank) == 9);
  const ClipLayout one({{1, 9}}, 4);
  Index holding = 0;
  for (int rank = 0; rank < 4; ++rank) holding += one.tokens(ClipAxis::kFrames, rank) > 0 ? 1 : 0;
  CHECK(holding == 1);
  CHECK_THROWS_AS(ClipLayout({{0, 4}}, 2), base::InternalError);
}

}  // namespace
}  // namespace longspan::shard
