#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "longspan/data/clip_sampler.h"
#include "longspan/data/clip_source.h"
#include "longspan/train/clip_job.h"

namespace longspan::train {

/// The clips of a job, opened and checked against its model.
class ClipCorpus {
 public:
  /// Throws InputError.
  explicit ClipCorpus(const ClipJob& job);

  const data::ClipSource& source() const { return *source_; }
  /// The clips of a step in micro-batches, the same on every rank. `step` counts from 0.
  std::vector<std::vector<ClipSample>> micro_batches(std::int64_t step);
  /// Those that are held out, likewise; the last one may have fewer clips.
  std::vector<std::vector<ClipSample>> validation() const;

  /// What the order of samples depends on, for checkpoints.
  std::string sampling() const;
  /// "10000 clips of sprites, 200 held out".
  std::string description() const;
  /// Extents that its clips have, each once.
  const std::vector<data::ClipShape>& shapes() const { return shapes_; }

 private:
  const ClipJob* job_;
  std::unique_ptr<data::ClipSource> source_;
  std::int64_t trained_ = 0;  ///< clips, the first ones
  std::vector<data::ClipShape> shapes_;
  std::unique_ptr<data::ClipSampler> sampler_;
};

/// The extents of the clips that a job names, each once. Throws InputError.
std::vector<data::ClipShape> clip_shapes(const ClipJob& job);

}  // namespace longspan::train
