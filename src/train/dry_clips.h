#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "longspan/backend/dry.h"
#include "longspan/comm/dry.h"
#include "longspan/data/clip_source.h"
#include "longspan/train/clip_job.h"
#include "train/clip_ranks.h"
#include "train/clip_step.h"
#include "train/dry_step.h"

namespace longspan::train {

/// Clips of one extent, all zeros.
class EqualClips : public data::ClipSource {
 public:
  explicit EqualClips(const data::ClipShape& shape) : shape_(shape) {}

  std::int64_t count() const override { return 1; }
  data::ClipShape shape(std::int64_t /*clip*/) const override { return shape_; }
  std::int64_t classes() const override { return 1; }
  std::int64_t label(std::int64_t /*clip*/) const override { return 0; }
  void read(std::int64_t clip, const data::ClipBox& box, float* out) const override;
  std::string fingerprint() const override { return "zeros"; }

 private:
  data::ClipShape shape_;
};

/// A rank of a job of clips that computes nothing, before its first step. The job must outlive it.
struct DryClipRank {
  /// Throws InputError as clip_ranks does. `watched`: see DryBackend::watch.
  DryClipRank(const ClipJob& job, const data::ClipShape& shape, const PlanSetting& setting,
              int rank, std::int64_t watched = -1);

  int threads;
  WithThreads limited;
  backend::DryBackend backend;
  ClipRanks layout;
  comm::DryCommunicator world;
  std::unique_ptr<comm::Communicator> group;
  std::optional<backend::DryBackend> host;  ///< see uses_host
  EqualClips source;
  ClipStep step;
};

/// One step of such a rank: the trainer's, with full micro-batches.
struct DryClipStep : DryClipRank {
  DryClipStep(const ClipJob& job, const data::ClipShape& shape, const PlanSetting& setting,
              int rank, std::int64_t watched = -1);

  double model_flops = 0;  ///< of this rank
};

/// What a step takes of all ranks, with the extents of which one needs most, and the placement:
/// where micro-batches may mix clips of several extents, their placement may be any.
struct DryClipWorld : WorldPeaks {
  DryClipWorld(const ClipJob& given, const PlanSetting& setting);

  ClipJob job;  ///< with that placement
  data::ClipShape shape;
  std::uint64_t assumed_states = 0;  ///< what the setting says that states take; 0: nothing
};

/// Bytes of all tensors in a checkpoint of the job.
std::uint64_t clip_checkpoint_bytes(const ClipJob& job);

/// Pinned memory of the host for what this rank keeps there; null when the job keeps nothing there.
std::unique_ptr<backend::Backend> make_clip_host(const ClipJob& job,
                                                 const comm::Communicator& world);

}  // namespace longspan::train
