#include "longspan/train/clip_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "longspan/base/file.h"
#include "longspan/optim/kinds.h"
#include "train/clip_corpus.h"
#include "train/dry_clips.h"

namespace longspan::train {
namespace {

std::uint64_t needed_by(const ClipJob& job, const PlanSetting& setting) {
  return DryClipWorld(job, setting).needed;
}

std::vector<std::string> describe_recomputation(const ClipJob& job) {
  if (!job.has_backward()) return {};
  std::vector<std::string> lines;
  if (job.keeps_inputs_alone()) lines.emplace_back("every block, from its input on");
  lines.emplace_back("everywhere: outputs of norms (no products of matrices)");
  return lines;
}

/// Changes tried one on top of another, the cheapest in time first, until one fits.
class Remedies {
 public:
  Remedies(const ClipJob& job, const PlanSetting& setting)
      : job_(job), setting_(&setting), limit_(limit_of(job, setting)) {}

  std::string text() {
    find();
    std::string text = "What would take less:\n";
    return text +
           (lines_.empty() ? "  fewer or smaller clips, more ranks, a smaller model\n" : lines_);
  }

 private:
  void find() {
    if (job_.has_backward() && !job_.keeps_inputs_alone()) {
      job_.memory.activation_checkpointing = "block";
      if (attempt("memory.activation_checkpointing = \"block\"")) return;
    }
    if (leave_placement() && attempt("parallel.sequence_placement = \"alternating\"")) return;
    const bool shares =
        setting_->ranks > 1 && !optim::optimizer_kind(job_.optimizer.name).needs_whole_parameters;
    for (const std::int64_t stage : {job_.has_backward() ? 2 : 1, 3}) {
      if (!shares || stage <= job_.parallel.zero_stage) continue;
      job_.parallel.zero_stage = stage;
      if (attempt(fmt::format("parallel.zero_stage = {}", stage))) return;
    }
    while (job_.batch.clips_per_micro_batch > 1) {
      std::int64_t& clips = job_.batch.clips_per_micro_batch;
      do {
        --clips;
      } while (job_.batch.clips_per_step % clips != 0);
      if (attempt(fmt::format("training.clips_per_micro_batch = {}", clips))) return;
    }
    const int degree = clip_ranks(job_, setting_->ranks).sequence;
    for (int more = degree + 1; more <= setting_->ranks && job_.parallel.data == 0; ++more) {
      if (setting_->ranks % more != 0) continue;
      job_.group_ranks = more;
      if (attempt(fmt::format("parallel.sequence = {}", more))) return;
    }
  }

  /// The alternating placement keeps less, but where it leaves ranks with much more than others.
  bool leave_placement() {
    if (job_.sharing().sharding != shard::ClipSharding::kDynamic ||
        clip_ranks(job_, setting_->ranks).sequence == 1) {
      return false;
    }
    ClipJob alternating = job_;
    alternating.sequence_placement = placement_name(shard::ClipPlacement::kAlternating);
    if (needed_by(alternating, *setting_) >= needed_by(job_, *setting_)) return false;
    job_ = std::move(alternating);
    return true;
  }

  bool attempt(const std::string& what) {
    change_ += (change_.empty() ? "" : ", ") + what;
    const std::uint64_t peak = needed_by(job_, *setting_);
    lines_ += fmt::format("  {:>10}  {}  {}\n", base::format_bytes(peak), change_,
                          peak <= limit_ ? "(fits)" : "(does not fit)");
    return peak <= limit_;
  }

  ClipJob job_;
  const PlanSetting* setting_;
  std::uint64_t limit_;
  std::string change_;
  std::string lines_;
};

}  // namespace

Fit check_clip_fit(const ClipJob& job, const PlanSetting& setting) {
  return {needed_by(job, setting), limit_of(job, setting)};
}

Plan make_clip_plan(const ClipJob& job, const PlanSetting& setting) {
  const DryClipWorld world(job, setting);
  DryClipStep dry(world.job, world.shape, setting, world.heaviest);
  Plan plan = measured_plan(dry.backend, dry.world.traffic(), world);
  plan.name = job.run.name;
  plan.world_size = setting.ranks;
  plan.data = dry.layout.data;
  plan.sequence = {dry.layout.sequence, 1};
  plan.sharing = job.sequence_mode;
  plan.placement = clip_placement(job, world.shape, dry.layout);
  plan.planned_placement = clip_placement(world.job, world.shape, dry.layout);
  plan.placements = clip_placements(job, clip_shapes(job), dry.layout);
  plan.threads = dry.threads;
  plan.parameters = plan.trained_parameters = dry.step.parameter_count();
  plan.micro_batch_tokens = job.batch.clips_per_micro_batch *
                            patches_of(world.shape, job.model.patch_size).grid().tokens();
  plan.micro_batches = (job.batch.micro_batches() + dry.layout.data - 1) / dry.layout.data;
  plan.tokens_per_step = plan.micro_batch_tokens * job.batch.micro_batches();
  plan.limit = limit_of(job, setting);
  plan.assumed_states = world.assumed_states;
  plan.host_bytes = host_bytes(job, setting.ranks, dry.host);
  plan.model_flops = dry.model_flops;
  plan.recomputed = describe_recomputation(job);
  plan.live_at_peak =
      DryClipStep(world.job, world.shape, setting, plan.rank, dry.backend.peak_change())
          .backend.watched();
  ClipJob keeps = world.job;
  keeps.memory.activation_checkpointing = "none";
  const backend::DryCounts least =
      DryClipStep(keeps, world.shape, setting, plan.rank).backend.counts();
  plan.recomputed_flops = plan.counts.matmul_flops + plan.counts.attention_flops -
                          least.matmul_flops - least.attention_flops;
  return plan;
}

std::string clip_remedies_text(const ClipJob& job, const PlanSetting& setting) {
  return Remedies(job, setting).text();
}

}  // namespace longspan::train
