#pragma once

#include <vector>

#include "longspan/shard/cover.h"

namespace longspan::shard {

/// Extents of a clip in tokens: frames over time, places in a frame.
struct ClipGrid {
  Index frames = 0;
  Index places = 0;

  Index tokens() const { return frames * places; }
  bool operator==(const ClipGrid&) const = default;
};

/// Along which axis a rank holds a part of each clip; of the other one it holds all.
enum class ClipAxis { kFrames, kPlaces };

/// Which frames, or which places, of packed clips each rank of a group holds (DSP, Zhao et al.
/// 2024). All clips' frames lie one behind another, and each rank has the next ones of them, about
/// as many tokens as any other; likewise all clips' places. So a clip may lie on one rank or on
/// many, extents need not divide, nothing is padded, and there may be more ranks than frames: some
/// then hold nothing.
class ClipLayout {
 public:
  /// Throws InternalError for a clip without tokens.
  ClipLayout(std::vector<ClipGrid> clips, int ranks);

  const std::vector<ClipGrid>& clips() const { return clips_; }
  int ranks() const { return ranks_; }
  /// Of a clip's frames, or places, over the ranks.
  const Cover& cover(std::size_t clip, ClipAxis axis) const {
    return covers_[static_cast<std::size_t>(axis)][clip];
  }
  Index held(std::size_t clip, ClipAxis axis, int rank) const {
    return cover(clip, axis).size(rank);
  }
  /// Tokens that a rank holds of all clips.
  Index tokens(ClipAxis axis, int rank) const;
  Index tokens() const;

 private:
  std::vector<Cover> divided(ClipAxis axis) const;

  std::vector<ClipGrid> clips_;
  int ranks_;
  std::vector<Cover> covers_[2];  ///< by axis and clip
};

}  // namespace longspan::shard
