#pragma once

#include <cstdint>
#include <vector>

#include "longspan/data/clip_source.h"
#include "longspan/model/clip_model.h"

namespace longspan::train {

/// What a model of clips learns.
enum class ClipObjective : std::uint8_t {
  /// From frames up to t how the next one differs: what it predicts is frame t + 1 less frame t.
  /// Nothing is drawn. The last frame has no target.
  kNextFrame,
  /// Rectified flow (Liu et al. 2023, "Flow straight and fast"): from z = (1 - tau) x + tau e, e
  /// standard normal, the velocity x - e. tau is the sigmoid of a normal number (Esser et al.
  /// 2024), moved towards noise for large and long clips.
  kRectifiedFlow,
};

/// A clip of a step: which one, and its number among all of the step's, by which times and noise
/// are drawn: they are the same on whatever ranks it lies.
struct ClipSample {
  std::int64_t clip = 0;
  std::int64_t number = 0;
};

/// Patches of a clip: [frames, places, patch * patch * channels] of these ranges; a place's number
/// counts along rows of patches. Numbers of a patch: rows, columns, channels. What is left of
/// extents that the patch's side does not divide is not read.
std::vector<float> read_patches(const data::ClipSource& source, std::int64_t clip,
                                std::int64_t patch, const shard::Range& frames,
                                const shard::Range& places);
/// A clip's extents in patches.
model::ClipPatches patches_of(const data::ClipShape& shape, std::int64_t patch);

/// A time of [0, 1] moved towards noise for large and long clips: r t / (1 + (r - 1) t), r = the
/// root of (height width) / 512 times the root of the frames (Open-Sora's rule), but at least 1:
/// of small clips much noise must be learned about, too.
double moved_time(double time, const data::ClipShape& shape);

/// The peak signal-to-noise ratio, in decibels, of numbers from -1 to 1 with this mean of squared
/// errors.
double psnr_of(double mean_squared_error);

/// The time of a sample's clip: 0 where nothing is drawn.
double time_of(ClipObjective objective, const data::ClipShape& shape, std::uint64_t seed,
               std::int64_t step, const ClipSample& sample);

/// What this rank of `group` (null: alone) holds of the samples' clips in a step: the same
/// placement on every rank.
model::ClipBatch clip_batch(const data::ClipSource& source, const model::ClipConfig& config,
                            ClipObjective objective, const std::vector<ClipSample>& samples,
                            std::uint64_t seed, std::int64_t step, comm::Communicator* group,
                            const shard::ClipSharing& sharing = {});

}  // namespace longspan::train
