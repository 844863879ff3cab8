#include "longspan/shard/clip_layout.h"

#include <algorithm>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::shard {
namespace {

Index length(const ClipGrid& clip, ClipAxis axis) {
  return axis == ClipAxis::kFrames ? clip.frames : clip.places;
}
/// Tokens of one of them.
Index weight(const ClipGrid& clip, ClipAxis axis) {
  return axis == ClipAxis::kFrames ? clip.places : clip.frames;
}

/// What both have, from `range`'s own first index on where that is nothing.
Range shared(const Range& range, Index begin, Index end) {
  const Index first = std::clamp(begin, range.begin, range.end);
  return {first, std::clamp(end, first, range.end)};
}

/// Of numbers that may be negative; `by` is positive.
Index divide_up(Index number, Index by) {
  return number > 0 ? (number + by - 1) / by : -(-number / by);
}

}  // namespace

std::vector<Range> ClipPart::runs(ClipOrder order) const {
  std::vector<Range> runs;
  if (order == ClipOrder::kByFrame) {
    for (Index frame = frames.begin; frame < frames.end; ++frame) {
      const Index before = frame * grid.places;
      runs.push_back(shared(places, tokens.begin - before, tokens.end - before));
    }
    return runs;
  }
  for (Index place = places.begin; place < places.end; ++place) {
    runs.push_back(shared(frames, divide_up(tokens.begin - place, grid.places),
                          divide_up(tokens.end - place, grid.places)));
  }
  return runs;
}

Index ClipPart::size() const {
  Index size = 0;
  for (const Range& run : runs(ClipOrder::kByFrame)) size += run.size();
  return size;
}

ClipLayout::ClipLayout(std::vector<ClipGrid> clips, int ranks, ClipSharding sharding,
                       ClipPlacement placement)
    : clips_(std::move(clips)), ranks_(ranks), sharding_(sharding), placement_(placement) {
  if (sharding != ClipSharding::kDynamic && placement != ClipPlacement::kAlternating) {
    throw base::InternalError("clips have a placement that is of dynamic sharding alone");
  }
  Index begin = 0;
  for (const ClipGrid& clip : clips_) {
    if (clip.frames < 1 || clip.places < 1) {
      throw base::InternalError("a clip to be divided among ranks has no tokens");
    }
    begins_.push_back(begin);
    begin += clip.tokens();
  }
  for (const ClipAxis axis : {ClipAxis::kFrames, ClipAxis::kPlaces}) {
    covers_[static_cast<std::size_t>(axis)] = divided(axis);
  }
}

/// Rank k's part begins at the whole frame (place) that is nearest to k shares of all tokens.
std::vector<Cover> ClipLayout::divided(ClipAxis axis) const {
  const Index all = tokens();
  std::vector<Cover> covers;
  for (std::size_t number = 0; number < clips_.size(); ++number) {
    const ClipGrid& clip = clips_[number];
    const Index each = weight(clip, axis);
    const auto cut = [&](Index rank) {
      if (rank >= ranks_) return length(clip, axis);
      const Index target = all * rank / ranks_ - begins_[number];
      return std::clamp<Index>((2 * target + each) / (2 * each), 0, length(clip, axis));
    };
    std::vector<std::vector<Range>> by_rank;
    for (Index rank = 0; rank < ranks_; ++rank) {
      by_rank.push_back({{rank == 0 ? 0 : cut(rank), cut(rank + 1)}});
    }
    covers.emplace_back(length(clip, axis), std::move(by_rank));
  }
  return covers;
}

ClipOrder ClipLayout::residual(ClipOrder attention) const {
  if (placement_ == ClipPlacement::kAlternating) return attention;
  return placement_ == ClipPlacement::kFrames ? ClipOrder::kByFrame : ClipOrder::kByPlace;
}

bool ClipLayout::shares_attention(ClipOrder order) const {
  if (ranks_ == 1 || sharding_ == ClipSharding::kDynamic) return false;
  return order == ClipOrder::kByFrame || sharding_ == ClipSharding::kFlattened;
}

ClipPart ClipLayout::part(std::size_t clip, ClipOrder order, int rank) const {
  const ClipGrid& grid = clips_[clip];
  ClipPart part{grid, {0, grid.frames}, {0, grid.places}, {0, grid.tokens()}};
  if (sharding_ == ClipSharding::kFlattened) {
    const Index all = tokens();
    part.tokens = shared(part.tokens, all * rank / ranks_ - begins_[clip],
                         all * (rank + 1) / ranks_ - begins_[clip]);
    part.frames = {part.tokens.begin / grid.places, divide_up(part.tokens.end, grid.places)};
    if (part.tokens.size() == 0) part.frames = {};
  } else if (sharding_ == ClipSharding::kDynamic && order == ClipOrder::kByFrame) {
    part.frames = cover(clip, ClipAxis::kFrames).range(rank);
  } else {
    part.places = cover(clip, ClipAxis::kPlaces).range(rank);
  }
  return part;
}

Index ClipLayout::tokens(ClipOrder order, int rank) const {
  Index tokens = 0;
  for (std::size_t clip = 0; clip < clips_.size(); ++clip) tokens += part(clip, order, rank).size();
  return tokens;
}

Index ClipLayout::tokens() const {
  return clips_.empty() ? 0 : begins_.back() + clips_.back().tokens();
}

Cover ClipLayout::row(ClipOrder order) const {
  std::vector<std::vector<Range>> by_rank;
  for (int rank = 0; rank < ranks_; ++rank) {
    std::vector<Range>& ranges = by_rank.emplace_back();
    for (std::size_t clip = 0; clip < clips_.size(); ++clip) {
      const ClipPart held = part(clip, order, rank);
      const bool by_frame = order == ClipOrder::kByFrame;
      Index outer = by_frame ? held.frames.begin : held.places.begin;
      for (const Range& run : held.runs(order)) {
        const Index before =
            begins_[clip] + outer++ * (by_frame ? held.grid.places : held.grid.frames);
        const Range range{before + run.begin, before + run.end};
        if (range.size() > 0 && !ranges.empty() && ranges.back().end == range.begin) {
          ranges.back().end = range.end;
        } else if (range.size() > 0) {
          ranges.push_back(range);
        }
      }
    }
  }
  return {tokens(), std::move(by_rank)};
}

ClipPlacement best_placement(const std::vector<ClipGrid>& clips, int ranks) {
  const ClipLayout layout(clips, ranks);
  const auto most = [&](ClipOrder order) {
    Index tokens = 0;
    for (int rank = 0; rank < ranks; ++rank) tokens = std::max(tokens, layout.tokens(order, rank));
    return tokens;
  };
  const Index by_frame = most(ClipOrder::kByFrame);
  const Index by_place = most(ClipOrder::kByPlace);
  const Index alternating = by_frame + by_place;
  const Index least = 2 * std::min(by_frame, by_place);
  if (100 * least >= 95 * alternating) return ClipPlacement::kAlternating;
  return by_frame < by_place ? ClipPlacement::kFrames : ClipPlacement::kPlaces;
}

ClipPlacement placement_of(const ClipSharing& sharing, const std::vector<ClipGrid>& clips,
                           int ranks) {
  if (sharing.sharding != ClipSharding::kDynamic) return ClipPlacement::kAlternating;
  return sharing.placement ? *sharing.placement : best_placement(clips, ranks);
}

}  // namespace longspan::shard
