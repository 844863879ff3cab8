#pragma once

#include <cstdint>
#include <optional>
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

/// Where the residual stream lies with dynamic sharing: all but the attention of blocks runs on it
/// there, and what attends in the other order is sent there and back.
enum class ClipPlacement : std::uint8_t {
  kAlternating,  ///< in each block as its attention needs it: the stream itself switches in between
  kFrames,       ///< by frame; around attention along time two switches
  kPlaces,       ///< by place; around attention within frames two switches
};

/// How the ranks of a group share the clips of any micro-batch.
struct ClipSharing {
  ClipSharding sharding = ClipSharding::kDynamic;
  /// With dynamic sharding; none: of each micro-batch the one that best_placement says.
  std::optional<ClipPlacement> placement = std::nullopt;
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
  /// Throws InternalError for a clip without tokens, and for a placement that is not the first of a
  /// sharding that is not dynamic.
  ClipLayout(std::vector<ClipGrid> clips, int ranks, ClipSharding sharding = ClipSharding::kDynamic,
             ClipPlacement placement = ClipPlacement::kAlternating);

  const std::vector<ClipGrid>& clips() const { return clips_; }
  int ranks() const { return ranks_; }
  ClipSharding sharding() const { return sharding_; }
  ClipPlacement placement() const { return placement_; }
  /// In which order the residual stream lies in blocks that attend in this one.
  ClipOrder residual(ClipOrder attention) const;
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
  ClipPlacement placement_;
  std::vector<Index> begins_;     ///< of each clip's tokens among all
  std::vector<Cover> covers_[2];  ///< by axis and clip
};

/// The placement that makes ranks wait for each other least, or the alternating one where that is
/// little. A switch is where they wait: a stage between two of them takes as long as the rank with
/// most tokens does. Attention is where it is with any placement; what the residual stream runs
/// through (MLPs, most of all) comes twice in a pair of blocks, on the stream as it lies. With F
/// and P the most tokens that a rank has by frame and by place, that is F + P tokens with the
/// alternating placement, 2 F by frame, 2 P by place.
///
/// The alternating one sends one switch less in all (2 L - 1 for L pairs, not 2 L) and keeps less
/// for the backward, so another has to save more than 5% of F + P. Two thirds of the products of a
/// block are its MLP's, four times as wide as the stream: 5% of the tokens are 3% of a pair's time.
/// A switch more takes 2.5% / L of it where links carry 350 GB/s and the stream is 1152 wide.
ClipPlacement best_placement(const std::vector<ClipGrid>& clips, int ranks);
/// What a micro-batch of these clips has.
ClipPlacement placement_of(const ClipSharing& sharing, const std::vector<ClipGrid>& clips,
                           int ranks);

}  // namespace longspan::shard
