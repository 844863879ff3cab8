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

}  // namespace

ClipLayout::ClipLayout(std::vector<ClipGrid> clips, int ranks)
    : clips_(std::move(clips)), ranks_(ranks) {
  for (const ClipGrid& clip : clips_) {
    if (clip.frames < 1 || clip.places < 1) {
      throw base::InternalError("a clip to be divided among ranks has no tokens");
    }
  }
  for (const ClipAxis axis : {ClipAxis::kFrames, ClipAxis::kPlaces}) {
    covers_[static_cast<std::size_t>(axis)] = divided(axis);
  }
}

/// Rank k's part begins at the whole frame (place) that is nearest to k shares of all tokens.
std::vector<Cover> ClipLayout::divided(ClipAxis axis) const {
  const Index all = tokens();
  std::vector<Cover> covers;
  Index before = 0;  // tokens of the clips before this one
  for (const ClipGrid& clip : clips_) {
    const Index each = weight(clip, axis);
    const auto cut = [&](Index rank) {
      if (rank >= ranks_) return length(clip, axis);
      const Index target = all * rank / ranks_ - before;
      return std::clamp<Index>((2 * target + each) / (2 * each), 0, length(clip, axis));
    };
    std::vector<std::vector<Range>> by_rank;
    for (Index rank = 0; rank < ranks_; ++rank) {
      by_rank.push_back({{rank == 0 ? 0 : cut(rank), cut(rank + 1)}});
    }
    covers.emplace_back(length(clip, axis), std::move(by_rank));
    before += clip.tokens();
  }
  return covers;
}

Index ClipLayout::tokens(ClipAxis axis, int rank) const {
  Index tokens = 0;
  for (std::size_t clip = 0; clip < clips_.size(); ++clip) {
    tokens += held(clip, axis, rank) * weight(clips_[clip], axis);
  }
  return tokens;
}

Index ClipLayout::tokens() const {
  Index tokens = 0;
  for (const ClipGrid& clip : clips_) tokens += clip.tokens();
  return tokens;
}

}  // namespace longspan::shard
