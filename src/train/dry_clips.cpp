#include "train/dry_clips.h"

#include <algorithm>

#include "longspan/backend/cuda.h"
#include "train/clip_corpus.h"
#include "train/resources.h"
#include "train/states.h"

namespace longspan::train {
namespace {

std::int64_t taken_by(const ClipRanks& layout, const ClipJob& job, int rank) {
  const std::int64_t count = job.batch.micro_batches();
  const auto numbers = layout.micro_batches(count, rank / layout.sequence);
  return std::count_if(numbers.begin(), numbers.end(),
                       [count](std::int64_t number) { return number < count; });
}

/// Of all ranks, with clips of one extent. Ranks that do the same are run once.
WorldPeaks peaks_of(const ClipJob& job, const data::ClipShape& shape, const PlanSetting& setting,
                    std::uint64_t assumed) {
  WorldPeaks peaks;
  DryClipStep first(job, shape, setting, 0);
  const auto kinds =
      alike_ranks(setting.ranks, {&first.step.model().parameters().partition()}, [&](int rank) {
        return std::vector<std::int64_t>{rank % first.layout.sequence,
                                         taken_by(first.layout, job, rank)};
      });
  peaks.take_all(kinds, first, assumed,
                 [&](int rank) { return DryClipStep(job, shape, setting, rank); });
  return peaks;
}

/// The job, or where micro-batches may mix clips of several extents, with each placement that one
/// may have.
std::vector<ClipJob> placed(const ClipJob& job, const std::vector<data::ClipShape>& shapes,
                            const PlanSetting& setting) {
  const shard::ClipSharing sharing = job.sharing();
  const bool mixes = shapes.size() > 1 && job.batch.clips_per_micro_batch > 1;
  if (!mixes || sharing.sharding != shard::ClipSharding::kDynamic || sharing.placement ||
      clip_ranks(job, setting.ranks).sequence == 1) {
    return {job};
  }
  std::vector<ClipJob> jobs;
  for (const auto placement : {shard::ClipPlacement::kAlternating, shard::ClipPlacement::kFrames,
                               shard::ClipPlacement::kPlaces}) {
    jobs.push_back(job);
    jobs.back().sequence_placement = placement_name(placement);
  }
  return jobs;
}

}  // namespace

void EqualClips::read(std::int64_t /*clip*/, const data::ClipBox& box, float* out) const {
  std::fill_n(out, box.frames * box.rows * box.columns * shape_.channels, 0.0F);
}

DryClipRank::DryClipRank(const ClipJob& job, const data::ClipShape& shape,
                         const PlanSetting& setting, int rank, std::int64_t watched)
    : threads(thread_count(job, setting.local_ranks)),
      limited(threads),
      backend(setting.device, threads),
      layout(clip_ranks(job, setting.ranks)),
      world(rank, setting.ranks, backend, setting.ranks_per_device > 1),
      group(clip_group(world, layout)),
      host(dry_host(job, setting)),
      source(shape),
      step(job, source, watching(backend, watched), world, group.get(), host ? &*host : nullptr) {
  step.parameters().skip_preparation();
  backend.start_step();
  if (host) host->start_step();
}

DryClipStep::DryClipStep(const ClipJob& job, const data::ClipShape& shape,
                         const PlanSetting& setting, int rank, std::int64_t watched)
    : DryClipRank(job, shape, setting, rank, watched) {
  const std::int64_t count = job.batch.micro_batches();
  const shard::ClipGrid grid = patches_of(shape, job.model.patch_size).grid();
  ClipPasses passes;
  for (const std::int64_t number : layout.micro_batches(count, rank / layout.sequence)) {
    passes.emplace_back();
    for (std::int64_t i = 0; number < count && i < job.batch.clips_per_micro_batch; ++i) {
      passes.back().push_back({0, number * job.batch.clips_per_micro_batch + i});
      model_flops += job.model.training_flops(grid.frames, grid.places) / layout.sequence;
    }
  }
  step.forward_backward(passes, 0);
  step.parameters().update(0, 0.0);
}

DryClipWorld::DryClipWorld(const ClipJob& given, const PlanSetting& setting) {
  const std::vector<data::ClipShape> shapes = clip_shapes(given);
  std::uint64_t most = 0;
  for (const ClipJob& one : placed(given, shapes, setting)) {
    for (const data::ClipShape& extents : shapes) {
      std::uint64_t assumed = 0;
      if (setting.state_bytes_per_parameter > 0) {
        DryClipRank rank(one, extents, setting, 0);
        assumed = static_cast<std::uint64_t>(setting.state_bytes_per_parameter *
                                             static_cast<double>(rank.step.parameter_count()));
      }
      const WorldPeaks peaks = peaks_of(one, extents, setting, assumed);
      if (peaks.needed <= most) continue;
      most = peaks.needed;
      static_cast<WorldPeaks&>(*this) = peaks;
      job = one;
      shape = extents;
      assumed_states = assumed;
    }
  }
}

std::uint64_t clip_checkpoint_bytes(const ClipJob& job) {
  const PlanSetting setting = PlanSetting::of(1, backend::DeviceProfile::load("h200"));
  ClipJob alone = job;
  alone.group_ranks = 1;
  alone.parallel.data = 1;
  DryClipRank rank(alone, clip_shapes(job).front(), setting, 0);
  return state_bytes(rank.step.parameters(), rank.backend);
}

std::unique_ptr<backend::Backend> make_clip_host(const ClipJob& job,
                                                 const comm::Communicator& world) {
  if (!uses_host(job)) return nullptr;
  const DryClipStep dry(job, clip_shapes(job).front(), PlanSetting::of(job, world), world.rank());
  return backend::make_pinned_backend(host_bytes(job, world.size(), dry.host));
}

}  // namespace longspan::train
