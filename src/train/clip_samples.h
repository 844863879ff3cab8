#pragma once

#include <cstdint>
#include <vector>

#include "longspan/data/clip_source.h"
#include "longspan/data/gif.h"
#include "longspan/model/clip_model.h"

namespace longspan::train {

/// A clip that is whole in memory.
struct WholeClip {
  data::ClipShape shape;
  std::int32_t label = 0;      ///< its class, where the model knows some
  std::vector<float> numbers;  ///< [frames, height, width, channels]
};

/// Clips of these shapes and classes (their numbers are not read), sampled by a model of rectified
/// flow: from noise at time 1, `steps` steps of Euler's method along what the model says is the
/// velocity, to time 0. Times between are moved as those of training are (`moved_time`). A clip's
/// noise depends on the seed and its place in the list. Throws InputError for a shape that the
/// model's patches do not divide.
std::vector<WholeClip> sample_flow(model::ClipModel& model, const std::vector<WholeClip>& wishes,
                                   std::int64_t steps, std::uint64_t seed);

/// Goes on with clips, of which the first `given` frames stay: each further one is the one before
/// it and the change that a model of next frames predicts from all that were there.
std::vector<WholeClip> continue_frames(model::ClipModel& model, const std::vector<WholeClip>& clips,
                                       std::int64_t given);

/// Clips of one size beside each other, `columns` of them in a row, each point `scale` wide:
/// numbers from -1 to 1 as colours of 3 channels, or of any other number the first one's grey.
data::Animation animation_of(const std::vector<WholeClip>& clips, std::int64_t columns,
                             std::int64_t scale);

}  // namespace longspan::train
