#include "train/clip_corpus.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "longspan/base/error.h"
#include "longspan/data/npy_clips.h"
#include "longspan/data/sprites.h"

namespace longspan::train {
namespace {

using base::InputError;

std::unique_ptr<data::ClipSource> open_source(const ClipJob& job) {
  if (!job.data.makes_sprites()) {
    return std::make_unique<data::NpyClips>(
        std::vector<std::filesystem::path>(job.data.clips.begin(), job.data.clips.end()));
  }
  return std::make_unique<data::Sprites>(
      data::Sprites::Options{.seed = job.run.seed,
                             .clips = job.data.sprites + job.data.validation_clips,
                             .shapes = sprite_shapes(job),
                             .most_sprites = job.data.most_sprites,
                             .speed = job.data.speed});
}

std::string text_of(const data::ClipShape& shape) {
  return fmt::format("{} frames x {} channels x {} x {}", shape.frames, shape.channels,
                     shape.height, shape.width);
}

std::vector<data::ClipShape> shapes_of(const ClipJob& job, const data::ClipSource& source) {
  std::vector<data::ClipShape> shapes;
  const auto add = [&](const data::ClipShape& shape) {
    if (std::find(shapes.begin(), shapes.end(), shape) == shapes.end()) shapes.push_back(shape);
  };
  if (job.data.makes_sprites()) {
    for (const data::ClipShape& shape : sprite_shapes(job)) add(shape);
  } else {
    for (std::int64_t clip = 0; clip < source.count(); ++clip) add(source.shape(clip));
  }
  return shapes;
}

void check_shape(const ClipJob& job, const data::ClipShape& shape) {
  const auto refuse = [&](const std::string& why) {
    throw InputError(fmt::format("data.clips: there is a clip of {}, {}", text_of(shape), why));
  };
  const std::int64_t patch = job.model.patch_size;
  if (shape.channels != job.model.channels) {
    refuse(fmt::format("but model.channels is {}", job.model.channels));
  }
  if (shape.height < patch || shape.width < patch) {
    refuse(fmt::format("which is smaller than a patch: model.patch_size is {}", patch));
  }
  if (job.objective() == ClipObjective::kNextFrame && shape.frames < 2) {
    refuse("which has no next frame; training.objective \"next_frame\" needs at least 2");
  }
  const double tokens = static_cast<double>(patches_of(shape, patch).grid().tokens()) *
                        static_cast<double>(job.batch.clips_per_micro_batch);
  if (tokens > static_cast<double>(std::numeric_limits<std::int32_t>::max())) {
    refuse(fmt::format(
        "of which a micro-batch of {} has {:.0f} tokens; legal: at most {}; lower "
        "training.clips_per_micro_batch",
        job.batch.clips_per_micro_batch, tokens, std::numeric_limits<std::int32_t>::max()));
  }
}

}  // namespace

ClipCorpus::ClipCorpus(const ClipJob& job) : job_(&job), source_(open_source(job)) {
  trained_ = source_->count() - job.data.validation_clips;
  if (trained_ < 1) {
    throw InputError(
        fmt::format("data.validation_clips is {}, but data.clips has {} in all; legal: less",
                    job.data.validation_clips, source_->count()));
  }
  if (job.model.num_classes > 0 && job.model.num_classes < source_->classes()) {
    throw InputError(fmt::format(
        "model.num_classes is {}, but data.clips has {} classes; legal: 0, or at least as many",
        job.model.num_classes, source_->classes()));
  }
  shapes_ = shapes_of(job, *source_);
  for (const data::ClipShape& shape : shapes_) check_shape(job, shape);
  sampler_ = std::make_unique<data::ClipSampler>(trained_, job.batch.clips_per_step, job.run.seed);
}

std::vector<std::vector<ClipSample>> ClipCorpus::micro_batches(std::int64_t step) {
  std::vector<std::vector<ClipSample>> batches;
  std::int64_t number = 0;
  for (const std::int64_t clip : sampler_->clips(step)) {
    if (number % job_->batch.clips_per_micro_batch == 0) batches.emplace_back();
    batches.back().push_back({clip, number++});
  }
  return batches;
}

std::vector<std::vector<ClipSample>> ClipCorpus::validation() const {
  std::vector<std::vector<ClipSample>> batches;
  for (std::int64_t number = 0; number < job_->data.validation_clips; ++number) {
    if (number % job_->batch.clips_per_micro_batch == 0) batches.emplace_back();
    batches.back().push_back({trained_ + number, number});
  }
  return batches;
}

std::string ClipCorpus::sampling() const {
  return fmt::format("seed {}, {}, {} clips a step, {} held out, {}", job_->run.seed,
                     job_->batch.objective, job_->batch.clips_per_step, job_->data.validation_clips,
                     source_->fingerprint());
}

std::string ClipCorpus::description() const {
  std::vector<std::string> shapes;
  for (const data::ClipShape& shape : shapes_) shapes.push_back(text_of(shape));
  constexpr std::size_t kMostShown = 4;
  const std::string more =
      shapes.size() > kMostShown ? fmt::format(" and {} more", shapes.size() - kMostShown) : "";
  shapes.resize(std::min(shapes.size(), kMostShown));
  return fmt::format("{} clips, {} held out, of {}{}", trained_, job_->data.validation_clips,
                     fmt::join(shapes, "; "), more);
}

std::vector<data::ClipShape> clip_shapes(const ClipJob& job) { return ClipCorpus(job).shapes(); }

}  // namespace longspan::train
