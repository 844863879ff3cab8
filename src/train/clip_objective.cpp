#include "longspan/train/clip_objective.h"

#include <algorithm>
#include <cmath>

#include "longspan/base/random.h"
#include "longspan/shard/clip_layout.h"

namespace longspan::train {
namespace {

using shard::ClipOrder;
using shard::Range;

/// Side of the clips for which times are not moved, by Open-Sora's rule.
constexpr double kPlainSide = 512.0;

/// Of each frame the numbers of the places, which lie in a band of rows of patches.
class Band {
 public:
  Band(const data::ClipShape& shape, std::int64_t patch, const Range& places)
      : patch_(patch),
        columns_(shape.width / patch),
        width_(shape.width),
        channels_(shape.channels),
        places_(places),
        first_row_(places.begin / columns_),
        rows_(places.size() == 0 ? 0 : (places.end - 1) / columns_ - first_row_ + 1) {}

  data::ClipBox box(const Range& frames) const {
    return {frames.begin, frames.size(), first_row_ * patch_, rows_ * patch_, 0, width_};
  }
  std::int64_t numbers() const { return rows_ * patch_ * width_ * channels_; }

  /// Appends the patches of a frame's band.
  void append(std::vector<float>& out, const float* frame) const {
    for (std::int64_t place = places_.begin; place < places_.end; ++place) {
      const std::int64_t row = (place / columns_ - first_row_) * patch_;
      const std::int64_t column = place % columns_ * patch_;
      for (std::int64_t y = 0; y < patch_; ++y) {
        const float* from = frame + ((row + y) * width_ + column) * channels_;
        out.insert(out.end(), from, from + patch_ * channels_);
      }
    }
  }

 private:
  std::int64_t patch_;
  std::int64_t columns_;
  std::int64_t width_;
  std::int64_t channels_;
  Range places_;
  std::int64_t first_row_;
  std::int64_t rows_;
};

/// Of a box of patches [frames, places, each] those that a part holds, in this order.
std::vector<float> held_of(const std::vector<float>& box, const shard::ClipPart& part,
                           ClipOrder order, std::int64_t each) {
  std::vector<float> held;
  held.reserve(static_cast<std::size_t>(part.size() * each));
  part.for_each(order, [&](std::int64_t frame, std::int64_t place) {
    const std::int64_t token =
        (frame - part.frames.begin) * part.places.size() + place - part.places.begin;
    held.insert(held.end(), box.begin() + token * each, box.begin() + (token + 1) * each);
  });
  return held;
}

/// A box of one clip's tokens, and what is drawn for it.
class Box {
 public:
  Box(const data::ClipSource& source, const model::ClipConfig& config, const ClipSample& sample,
      const Range& frames, const Range& places)
      : source_(&source),
        config_(&config),
        sample_(&sample),
        patches_(patches_of(source.shape(sample.clip), config.patch_size)),
        frames_(frames),
        places_(places) {}

  std::vector<float> numbers() const { return numbers_of(frames_); }

  /// Each frame's next one less itself; zeros behind the last.
  std::vector<float> changes() const {
    const auto all = numbers_of({frames_.begin, std::min(frames_.end + 1, patches_.frames)});
    const std::int64_t frame = places_.size() * config_->patch_numbers();
    std::vector<float> changes(static_cast<std::size_t>(frames_.size() * frame));
    for (std::size_t i = 0; i + static_cast<std::size_t>(frame) < all.size(); ++i) {
      changes[i] = all[i + static_cast<std::size_t>(frame)] - all[i];
    }
    return changes;
  }

  /// The clip's noise, element by element.
  std::vector<float> noise(std::uint64_t seed, std::int64_t step) const {
    const base::RandomStream stream(seed, base::Purpose::kDiffusionNoise,
                                    static_cast<std::uint64_t>(step),
                                    static_cast<std::uint64_t>(sample_->number));
    const std::int64_t all_places = patches_.rows * patches_.columns;
    const std::int64_t each = config_->patch_numbers();
    std::vector<float> noise(static_cast<std::size_t>(frames_.size() * places_.size() * each));
#pragma omp parallel for
    for (std::int64_t i = 0; i < frames_.size() * places_.size(); ++i) {
      const std::int64_t frame = frames_.begin + i / places_.size();
      const std::int64_t place = places_.begin + i % places_.size();
      for (std::int64_t k = 0; k < each; ++k) {
        const auto element = static_cast<std::uint64_t>((frame * all_places + place) * each + k);
        noise[static_cast<std::size_t>(i * each + k)] = static_cast<float>(stream.normal(element));
      }
    }
    return noise;
  }

 private:
  std::vector<float> numbers_of(const Range& frames) const {
    return read_patches(*source_, sample_->clip, config_->patch_size, frames, places_);
  }

  const data::ClipSource* source_;
  const model::ClipConfig* config_;
  const ClipSample* sample_;
  model::ClipPatches patches_;
  Range frames_;
  Range places_;
};

/// What goes in of a box.
std::vector<float> inputs_of(const Box& box, ClipObjective objective, double time,
                             std::uint64_t seed, std::int64_t step) {
  std::vector<float> numbers = box.numbers();
  if (objective == ClipObjective::kNextFrame) return numbers;
  const std::vector<float> noise = box.noise(seed, step);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = static_cast<float>((1.0 - time) * static_cast<double>(numbers[i]) +
                                    time * static_cast<double>(noise[i]));
  }
  return numbers;
}

std::vector<float> targets_of(const Box& box, ClipObjective objective, std::uint64_t seed,
                              std::int64_t step) {
  if (objective == ClipObjective::kNextFrame) return box.changes();
  std::vector<float> numbers = box.numbers();
  const std::vector<float> noise = box.noise(seed, step);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] -= noise[i];
  return numbers;
}

void append(std::vector<float>& to, const std::vector<float>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

}  // namespace

model::ClipPatches patches_of(const data::ClipShape& shape, std::int64_t patch) {
  return {shape.frames, shape.height / patch, shape.width / patch};
}

std::vector<float> read_patches(const data::ClipSource& source, std::int64_t clip,
                                std::int64_t patch, const Range& frames, const Range& places) {
  const Band band(source.shape(clip), patch, places);
  std::vector<float> points(static_cast<std::size_t>(frames.size() * band.numbers()));
  std::vector<float> patches;
  if (points.empty()) return patches;
  source.read(clip, band.box(frames), points.data());
  for (std::int64_t frame = 0; frame < frames.size(); ++frame) {
    band.append(patches, points.data() + frame * band.numbers());
  }
  return patches;
}

double moved_time(double time, const data::ClipShape& shape) {
  const double side = std::sqrt(static_cast<double>(shape.height * shape.width));
  const double ratio =
      std::max(1.0, side / kPlainSide * std::sqrt(static_cast<double>(shape.frames)));
  return ratio * time / (1.0 + (ratio - 1.0) * time);
}

double psnr_of(double mean_squared_error) { return 10.0 * std::log10(4.0 / mean_squared_error); }

double time_of(ClipObjective objective, const data::ClipShape& shape, std::uint64_t seed,
               std::int64_t step, const ClipSample& sample) {
  if (objective == ClipObjective::kNextFrame) return 0.0;
  const base::RandomStream stream(seed, base::Purpose::kDiffusionTime,
                                  static_cast<std::uint64_t>(step), 0);
  const double normal = stream.normal(static_cast<std::uint64_t>(sample.number));
  return moved_time(1.0 / (1.0 + std::exp(-normal)), shape);
}

model::ClipBatch clip_batch(const data::ClipSource& source, const model::ClipConfig& config,
                            ClipObjective objective, const std::vector<ClipSample>& samples,
                            std::uint64_t seed, std::int64_t step, comm::Communicator* group,
                            const shard::ClipSharing& sharing) {
  model::ClipBatch batch;
  batch.group = group;
  batch.sharding = sharing.sharding;
  std::vector<shard::ClipGrid> grids;
  for (const ClipSample& sample : samples) {
    const data::ClipShape shape = source.shape(sample.clip);
    batch.clips.push_back(patches_of(shape, config.patch_size));
    grids.push_back(batch.clips.back().grid());
    batch.times.push_back(time_of(objective, shape, seed, step, sample));
    if (config.num_classes > 0) {
      batch.classes.push_back(static_cast<std::int32_t>(source.label(sample.clip)));
    }
  }
  batch.placement = shard::placement_of(sharing, grids, group == nullptr ? 1 : group->size());
  const shard::ClipLayout layout = batch.layout();
  const ClipOrder first = layout.residual(ClipOrder::kByFrame);
  const ClipOrder last = layout.residual(ClipOrder::kByPlace);
  const int rank = group == nullptr ? 0 : group->rank();
  const std::int64_t each = config.patch_numbers();
  for (std::size_t clip = 0; clip < samples.size(); ++clip) {
    const auto box_of = [&](const shard::ClipPart& part) {
      return Box(source, config, samples[clip], part.frames, part.places);
    };
    const shard::ClipPart in = layout.part(clip, first, rank);
    append(batch.inputs, held_of(inputs_of(box_of(in), objective, batch.times[clip], seed, step),
                                 in, first, each));
    const shard::ClipPart out = layout.part(clip, last, rank);
    append(batch.targets, held_of(targets_of(box_of(out), objective, seed, step), out, last, each));
    if (objective != ClipObjective::kNextFrame) continue;
    out.for_each(last, [&](std::int64_t frame, std::int64_t /*place*/) {
      batch.counts.push_back(frame + 1 < out.grid.frames ? 1.0F : 0.0F);
    });
  }
  return batch;
}

}  // namespace longspan::train
