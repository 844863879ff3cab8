#include "longspan/shard/clip_layout.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "longspan/base/error.h"

namespace longspan::shard {
namespace {

constexpr ClipOrder kOrders[] = {ClipOrder::kByFrame, ClipOrder::kByPlace};
constexpr ClipSharding kShardings[] = {ClipSharding::kDynamic, ClipSharding::kOneAxis,
                                       ClipSharding::kFlattened, ClipSharding::kRing};

TEST_CASE("clips: every token is on one rank, in either order") {
  const std::vector<ClipGrid> clips = GENERATE(
      std::vector<ClipGrid>{{1, 1}}, std::vector<ClipGrid>{{5, 7}, {2, 3}, {16, 1}, {1, 16}},
      std::vector<ClipGrid>{{3, 2}, {3, 2}}, std::vector<ClipGrid>{});
  for (const ClipSharding sharding : kShardings) {
    for (int ranks = 1; ranks <= 6; ++ranks) {
      const ClipLayout layout(clips, ranks, sharding);
      for (const ClipOrder order : kOrders) {
        const Cover row = layout.row(order);
        CHECK(row.extent() == layout.tokens());
        CHECK(row.is_partition());
        for (int rank = 0; rank < ranks; ++rank) {
          CHECK(row.size(rank) == layout.tokens(order, rank));
          Index last = -1;
          for (const Range& range : row.ranges(rank)) {
            CHECK(range.begin > last);
            last = range.end;
          }
        }
      }
    }
  }
}

/// What a rank holds, as numbers that ascend.
std::vector<Index> held(const ClipLayout& layout, ClipOrder order, int rank) {
  std::vector<Index> numbers;
  for (std::size_t clip = 0; clip < layout.clips().size(); ++clip) {
    layout.part(clip, order, rank).for_each(order, [&](Index frame, Index place) {
      numbers.push_back((static_cast<Index>(clip) * 100 + frame) * 100 + place);
    });
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

TEST_CASE("clips: but for dynamic sharding a rank holds the same tokens in either order") {
  const std::vector<ClipGrid> clips{{5, 7}, {2, 3}, {16, 1}, {1, 16}};
  for (const ClipSharding sharding : kShardings) {
    for (int ranks = 1; ranks <= 6; ++ranks) {
      const ClipLayout layout(clips, ranks, sharding);
      bool same = true;
      for (int rank = 0; rank < ranks; ++rank) {
        same = same &&
               held(layout, ClipOrder::kByFrame, rank) == held(layout, ClipOrder::kByPlace, rank);
      }
      CHECK(same == !layout.switches());
      CHECK(layout.switches() == (ranks > 1 && sharding == ClipSharding::kDynamic));
    }
  }
}

TEST_CASE("clips: whole frames and places lie on one rank where attention is not shared") {
  const std::vector<ClipGrid> clips{{5, 7}, {2, 3}, {16, 1}, {1, 16}};
  for (const ClipSharding sharding : kShardings) {
    const ClipLayout layout(clips, 3, sharding);
    for (const ClipOrder order : kOrders) {
      if (layout.shares_attention(order)) continue;
      for (std::size_t clip = 0; clip < clips.size(); ++clip) {
        const Index whole = order == ClipOrder::kByFrame ? clips[clip].places : clips[clip].frames;
        for (int rank = 0; rank < 3; ++rank) {
          for (const Range& run : layout.part(clip, order, rank).runs(order)) {
            CHECK(run == Range{0, whole});
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
      CHECK(std::abs(static_cast<double>(layout.tokens(ClipOrder::kByFrame, rank)) - share) <= 31);
      CHECK(std::abs(static_cast<double>(layout.tokens(ClipOrder::kByPlace, rank)) - share) <= 65);
    }
  }
}

TEST_CASE("clips: where there are more ranks than frames, packed clips still share") {
  // Two frames of each of four clips: eight in all.
  const ClipLayout layout({{2, 9}, {2, 9}, {2, 9}, {2, 9}}, 8);
  for (int rank = 0; rank < 8; ++rank) CHECK(layout.tokens(ClipOrder::kByFrame, rank) == 9);
  const ClipLayout one({{1, 9}}, 4);
  Index holding = 0;
  for (int rank = 0; rank < 4; ++rank) holding += one.tokens(ClipOrder::kByFrame, rank) > 0 ? 1 : 0;
  CHECK(holding == 1);
  CHECK_THROWS_AS(ClipLayout({{0, 4}}, 2), base::InternalError);
}

TEST_CASE("clips: the residual stream lies as the placement says") {
  const auto orders = [](ClipPlacement placement) {
    const ClipLayout layout({{2, 3}}, 2, ClipSharding::kDynamic, placement);
    return std::vector<ClipOrder>{layout.residual(ClipOrder::kByFrame),
                                  layout.residual(ClipOrder::kByPlace)};
  };
  CHECK(orders(ClipPlacement::kAlternating) ==
        std::vector<ClipOrder>{ClipOrder::kByFrame, ClipOrder::kByPlace});
  CHECK(orders(ClipPlacement::kFrames) ==
        std::vector<ClipOrder>{ClipOrder::kByFrame, ClipOrder::kByFrame});
  CHECK(orders(ClipPlacement::kPlaces) ==
        std::vector<ClipOrder>{ClipOrder::kByPlace, ClipOrder::kByPlace});
  CHECK_THROWS_AS(ClipLayout({{2, 3}}, 2, ClipSharding::kRing, ClipPlacement::kFrames),
                  base::InternalError);
}

TEST_CASE("clips: the best placement is where no rank has much more than its share") {
  const auto best = [](const std::vector<ClipGrid>& clips, int ranks) {
    return best_placement(clips, ranks);
  };
  // Fewer frames than ranks, or places.
  CHECK(best({{2, 16}}, 4) == ClipPlacement::kPlaces);
  CHECK(best({{16, 2}}, 4) == ClipPlacement::kFrames);
  CHECK(best({{1, 64}}, 2) == ClipPlacement::kPlaces);
  CHECK(best({{17, 64}}, 8) == ClipPlacement::kPlaces);  // 3 frames of 64 are many more than 8 x 17
  // Both divide, or neither does, or nearly.
  CHECK(best({{16, 64}}, 4) == ClipPlacement::kAlternating);
  CHECK(best({{3, 3}}, 4) == ClipPlacement::kAlternating);
  CHECK(best({{33, 4096}}, 2) == ClipPlacement::kAlternating);  // 17 frames are 3% more than a half
  // Packed clips fill up each other.
  CHECK(best({{2, 16}, {2, 16}}, 4) == ClipPlacement::kAlternating);
  CHECK(best({{2, 16}}, 1) == ClipPlacement::kAlternating);
  CHECK(best({}, 4) == ClipPlacement::kAlternating);
}

TEST_CASE("clips: what a job says of the placement counts before what is best") {
  const std::vector<ClipGrid> clips{{2, 16}};
  CHECK(placement_of({}, clips, 4) == ClipPlacement::kPlaces);
  CHECK(placement_of({ClipSharding::kDynamic, ClipPlacement::kFrames}, clips, 4) ==
        ClipPlacement::kFrames);
  CHECK(placement_of({ClipSharding::kRing}, clips, 4) == ClipPlacement::kAlternating);
}

}  // namespace
}  // namespace longspan::shard
