#include "train/clip_samples.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "longspan/base/error.h"
#include "longspan/base/random.h"
#include "longspan/train/clip_objective.h"

namespace longspan::train {
namespace {

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

/// The batch's clips, all of whose frames this rank has, in the order of frames and then places.
class Patches {
 public:
  explicit Patches(const model::ClipConfig& config, const std::vector<WholeClip>& clips)
      : config_(&config) {
    for (const WholeClip& clip : clips) {
      check(clip.shape);
      grids_.push_back(patches_of(clip.shape, config.patch_size));
      labels_.push_back(clip.label);
    }
  }

  /// For a model's evaluation at these times, with the first `frames` frames of each clip.
  model::ClipBatch batch(const std::vector<std::vector<float>>& clips, double time,
                         std::int64_t frames) const {
    model::ClipBatch batch;
    for (std::size_t clip = 0; clip < clips.size(); ++clip) {
      model::ClipPatches grid = grids_[clip];
      grid.frames = std::min(grid.frames, frames);
      batch.clips.push_back(grid);
      batch.times.push_back(time_of_clip(clip, time));
      if (config_->num_classes > 0) batch.classes.push_back(labels_[clip]);
      const std::int64_t count = grid.grid().tokens() * config_->patch_numbers();
      batch.inputs.insert(batch.inputs.end(), clips[clip].begin(), clips[clip].begin() + count);
    }
    batch.targets.resize(batch.inputs.size());
    return batch;
  }

  const model::ClipPatches& grid(std::size_t clip) const { return grids_[clip]; }
  std::int64_t most_frames() const {
    std::int64_t most = 0;
    for (const model::ClipPatches& grid : grids_) most = std::max(most, grid.frames);
    return most;
  }
  std::int64_t numbers() const { return config_->patch_numbers(); }
  std::int64_t numbers(std::size_t clip) const { return grid(clip).grid().tokens() * numbers(); }
  double time_of_clip(std::size_t clip, double time) const {
    const std::int64_t side = config_->patch_size;
    return moved_time(time,
                      {grid(clip).frames, 0, grid(clip).rows * side, grid(clip).columns * side});
  }

  /// Patches become a clip's numbers; the other way round.
  void to_points(WholeClip& clip, const std::vector<float>& patches, std::size_t number) const {
    clip.numbers.resize(at(clip.shape.elements()));
    for_each(clip.shape, number,
             [&](std::size_t patch, std::size_t point) { clip.numbers[point] = patches[patch]; });
  }
  std::vector<float> from_points(const WholeClip& clip, std::size_t number) const {
    std::vector<float> patches(at(numbers(number)));
    for_each(clip.shape, number,
             [&](std::size_t patch, std::size_t point) { patches[patch] = clip.numbers[point]; });
    return patches;
  }

 private:
  void check(const data::ClipShape& shape) const {
    const std::int64_t side = config_->patch_size;
    if (shape.channels == config_->channels && shape.height % side == 0 &&
        shape.width % side == 0) {
      return;
    }
    throw base::InputError(fmt::format(
        "clips of {} channel(s), {} x {} points; legal: {} channel(s), multiples of {} points (the "
        "model's patches)",
        shape.channels, shape.height, shape.width, config_->channels, side));
  }

  /// Calls visit(number in the patches, number among the points) of all numbers.
  template <typename Visit>
  void for_each(const data::ClipShape& shape, std::size_t number, const Visit& visit) const {
    const std::int64_t side = config_->patch_size;
    const std::int64_t columns = grid(number).columns;
    std::size_t patch = 0;
    for (std::int64_t frame = 0; frame < shape.frames; ++frame) {
      for (std::int64_t place = 0; place < grid(number).rows * columns; ++place) {
        for (std::int64_t y = 0; y < side; ++y) {
          const std::int64_t row = frame * shape.height + place / columns * side + y;
          const std::int64_t point = (row * shape.width + place % columns * side) * shape.channels;
          for (std::int64_t i = 0; i < side * shape.channels; ++i) visit(patch++, at(point + i));
        }
      }
    }
  }

  const model::ClipConfig* config_;
  std::vector<model::ClipPatches> grids_;
  std::vector<std::int32_t> labels_;
};

/// Adds `factor` times what a model predicted, which lies by places, to what lies by frames.
void add_prediction(float* to, const float* from, const shard::ClipGrid& grid, std::int64_t numbers,
                    double factor) {
  for (std::int64_t frame = 0; frame < grid.frames; ++frame) {
    for (std::int64_t place = 0; place < grid.places; ++place) {
      float* out = to + (frame * grid.places + place) * numbers;
      const float* in = from + (place * grid.frames + frame) * numbers;
      for (std::int64_t i = 0; i < numbers; ++i) out[i] += static_cast<float>(factor * in[i]);
    }
  }
}

std::uint8_t level_of(float number) {
  return static_cast<std::uint8_t>(std::lround(std::clamp((number + 1.0F) * 127.5F, 0.0F, 255.0F)));
}

}  // namespace

std::vector<WholeClip> sample_flow(model::ClipModel& model, const std::vector<WholeClip>& wishes,
                                   std::int64_t steps, std::uint64_t seed) {
  const Patches patches(model.config(), wishes);
  std::vector<std::vector<float>> clips(wishes.size());
  for (std::size_t clip = 0; clip < clips.size(); ++clip) {
    const base::RandomStream noise(seed, base::Purpose::kDiffusionNoise, 0, clip);
    for (std::int64_t i = 0; i < patches.numbers(clip); ++i) {
      clips[clip].push_back(static_cast<float>(noise.normal(static_cast<std::uint64_t>(i))));
    }
  }
  std::vector<float> velocity;
  for (std::int64_t step = 0; step < steps; ++step) {
    const double now = 1.0 - static_cast<double>(step) / static_cast<double>(steps);
    const double then = 1.0 - static_cast<double>(step + 1) / static_cast<double>(steps);
    model.evaluate(patches.batch(clips, now, patches.most_frames()), &velocity);
    const float* of_clip = velocity.data();
    for (std::size_t clip = 0; clip < clips.size(); ++clip) {
      const double change = patches.time_of_clip(clip, now) - patches.time_of_clip(clip, then);
      add_prediction(clips[clip].data(), of_clip, patches.grid(clip).grid(), patches.numbers(),
                     change);
      of_clip += patches.numbers(clip);
    }
  }
  std::vector<WholeClip> samples = wishes;
  for (std::size_t clip = 0; clip < clips.size(); ++clip) {
    patches.to_points(samples[clip], clips[clip], clip);
  }
  return samples;
}

std::vector<WholeClip> continue_frames(model::ClipModel& model, const std::vector<WholeClip>& clips,
                                       std::int64_t given) {
  const Patches patches(model.config(), clips);
  std::vector<std::vector<float>> known;
  for (std::size_t clip = 0; clip < clips.size(); ++clip) {
    known.push_back(patches.from_points(clips[clip], clip));
  }
  std::vector<float> changes;
  for (std::int64_t frames = given; frames < patches.most_frames(); ++frames) {
    model.evaluate(patches.batch(known, 0.0, frames), &changes);
    const float* of_clip = changes.data();
    for (std::size_t clip = 0; clip < known.size(); ++clip) {
      const std::int64_t places = patches.grid(clip).grid().places;
      const std::int64_t there = std::min(frames, patches.grid(clip).frames);
      const std::int64_t frame = places * patches.numbers();
      if (there == frames && frames < patches.grid(clip).frames) {
        float* const next = known[clip].data() + frames * frame;
        std::copy(next - frame, next, next);
        for (std::int64_t place = 0; place < places; ++place) {
          const float* change = of_clip + (place * there + there - 1) * patches.numbers();
          for (std::int64_t i = 0; i < patches.numbers(); ++i) {
            next[place * patches.numbers() + i] += change[i];
          }
        }
      }
      of_clip += there * frame;
    }
  }
  std::vector<WholeClip> continued = clips;
  for (std::size_t clip = 0; clip < known.size(); ++clip) {
    patches.to_points(continued[clip], known[clip], clip);
  }
  return continued;
}

data::Animation animation_of(const std::vector<WholeClip>& clips, std::int64_t columns,
                             std::int64_t scale) {
  constexpr std::int64_t kGap = 2;
  const data::ClipShape& shape = clips.front().shape;
  const auto count = static_cast<std::int64_t>(clips.size());
  const std::int64_t across = std::min(columns, count);
  const std::int64_t down = (count + columns - 1) / columns;
  data::Animation animation;
  animation.width = across * (shape.width * scale + kGap) - kGap;
  animation.height = down * (shape.height * scale + kGap) - kGap;
  for (std::int64_t t = 0; t < shape.frames; ++t) {
    auto& frame = animation.frames.emplace_back(at(3 * animation.width * animation.height),
                                                std::uint8_t{255});
    for (std::int64_t clip = 0; clip < count; ++clip) {
      const std::int64_t left = clip % columns * (shape.width * scale + kGap);
      const std::int64_t top = clip / columns * (shape.height * scale + kGap);
      const float* numbers =
          clips[at(clip)].numbers.data() + t * shape.height * shape.width * shape.channels;
      for (std::int64_t y = 0; y < shape.height * scale; ++y) {
        for (std::int64_t x = 0; x < shape.width * scale; ++x) {
          const float* point = numbers + (y / scale * shape.width + x / scale) * shape.channels;
          std::uint8_t* to = frame.data() + 3 * ((top + y) * animation.width + left + x);
          for (std::int64_t colour = 0; colour < 3; ++colour) {
            to[colour] = level_of(point[shape.channels == 3 ? colour : 0]);
          }
        }
      }
    }
  }
  return animation;
}

}  // namespace longspan::train
