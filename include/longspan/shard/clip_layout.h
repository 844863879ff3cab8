#pragma once

#include <cstdint>
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
enum class ClipAxis : std::uint8_t { kFrames, kPlaces };

/// In which order the tokens of a pass lie: frame by frame (attention within frames), or place by
/// place (attention along time).
enum class ClipOrder : std::uint8_t { kByFrame, kByPlace };

/// How the ranks of a group share clips.
enum class ClipSharding : std::uint8_t {
  /// By frames while attention is within them, by places while it is along time; tokens change
  /// ranks in between (DSP, Zhao et al. 2024).
  kDynamic,
  /// By places; within frames attention exchanges tokens for heads (Ulysses, Jacobs et al. 2023, on
  /// one axis, as Open-Sora does).
  kOneAxis,
  /// All tokens, frame by frame, evenly; both attentions exchange them for heads (Ulysses).
  kFlattened,
  /// By places; within frames keys and values go around (Liu et al. 2023).
  kRing,
};

/// What a rank holds of a clip: of these frames and places the tokens whose number in the clip,
/// frame * places + place, is in `tokens`.
struct ClipPart {
  ClipGrid grid;
  Range frames;
  Range places;
  Range tokens;

  Index size() const;
  /// kByFrame: of each of `frames` in turn the places held; kByPlace: of each of `places` the
  /// frames.
  std::vector<Range> runs(ClipOrder order) const;
  /// Calls visit(frame, place) for each token held, in this order.
  template <typename Visit>
  void for_each(ClipOrder order, const Visit& visit) const {
    const bool by_frame = order == ClipOrder::kByFrame;
    Index outer = by_frame ? frames.begin : places.begin;
    for (const Range& run : runs(order)) {
      for (Index inner = run.begin; inner < run.end; ++inner) {
        if (by_frame) {
          visit(outer, inner);
        } else {
          visit(inner, outer);
        }
      }
      ++outer;
    }
  }
};

/// Which tokens of packed clips each rank of a group holds. All clips' frames (places, tokens) lie
/// one behind another, and each rank has the next ones of them, about as many tokens as any other.
/// So a clip may lie on one rank or on many, extents need not divide, nothing is padded, and there
/// may be more ranks than frames: some then hold nothing.
class ClipLayout {
 public:
  /// Throws InternalError for a clip without tokens.
  ClipLayout(std::vector<ClipGrid> clips, int ranks,
             ClipSharding sharding = ClipSharding::kDynamic);

  const std::vector<ClipGrid>& clips() const { return clips_; }
  int ranks() const { return ranks_; }
  ClipSharding sharding() const { return sharding_; }
  /// Whether a rank holds other tokens in passes of one order than in those of the other.
  bool switches() const {
    return sharding_ == ClipSharding::kDynamic && ranks_ > 1 && !clips_.empty();
  }
  /// Whether in passes of this order ranks hold parts of what is attended over, and share it.
  bool shares_attention(ClipOrder order) const;
  /// In passes of this order.
  ClipPart part(std::size_t clip, ClipOrder order, int rank) const;
  /// Tokens that a rank holds of all clips.
  Index tokens(ClipOrder order, int rank) const;
  Index tokens() const;
  /// Of all clips' tokens in this order, one clip behind another.
  Cover row(ClipOrder order) const;
  /// Of a clip's frames, or places, over the ranks, where they are divided so.
  const Cover& cover(std::size_t clip, ClipAxis axis) const {
    return covers_[static_cast<std::size_t>(axis)][clip];
  }

 private:
  std::vector<Cover> divided(ClipAxis axis) const;

  std::vector<ClipGrid> clips_;
  int ranks_;
  ClipSharding sharding_;
  std::vector<Index> begins_;     ///< of each clip's tokens among all
  std::vector<Cover> covers_[2];  ///< by axis and clip
};

}  // namespace longspan::shard
