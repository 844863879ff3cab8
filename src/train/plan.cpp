#include "longspan/train/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/train/device.h"
#include "train/dry_step.h"
#include "train/slot_choice.h"

namespace longspan::train {
namespace {

using backend::DeviceProfile;
using base::InputError;

/// By the rank that needs most.
std::uint64_t needed_by(const Job& job, const PlanSetting& setting) {
  return DryWorld(job, setting, assumed_states(job, setting)).needed;
}

/// What the first two micro-batches of each group show of that. Of a step with more, gaps between
/// a GPU's blocks can be larger.
std::uint64_t needed_at_first(const Job& job, const PlanSetting& setting) {
  Job first = job;
  const std::int64_t rows = 2 * parallel_layout(job, setting.ranks).data;
  first.training.tokens_per_step =
      std::min(job.training.tokens_per_step, rows * job.training.micro_batch_tokens);
  return needed_by(first, setting);
}

/// The job with one row of so many tokens a group.
Job with_tokens(const Job& job, const PlanSetting& setting, std::int64_t tokens) {
  Job changed = job;
  changed.training.micro_batch_tokens = tokens;
  changed.training.tokens_per_step = tokens * parallel_layout(job, setting.ranks).data;
  changed.model.max_position_embeddings = std::max(job.model.max_position_embeddings, tokens);
  return changed;
}

/// The same job where nothing is computed twice.
Job keeping_everything(const Job& job) {
  Job keeps = job;
  keeps.memory.activation_checkpointing = "none";
  keeps.memory.mini_sequence_mlp = "none";
  keeps.memory.saved_inputs = model::SlotTexts::all("full");
  keeps.memory.saved_rounding = "nearest";
  return keeps;
}

/// Of the tokens.
double recomputed_part(const nn::SaveParts& parts) {
  std::int64_t begin = 0;
  std::int64_t sum = 0;
  for (const nn::SaveParts::Part& part : parts.parts()) {
    if (part.policy.recompute) sum += part.end - begin;
    begin = part.end;
  }
  return static_cast<double>(sum) / static_cast<double>(nn::SaveParts::kWhole);
}

std::vector<std::string> describe_recomputation(const Job& job) {
  if (!job.has_backward()) return {};
  const model::MemoryPolicy policy = memory_policy(job);
  const auto level_of = [&](std::int64_t layer) -> std::string {
    std::string again = model::words_of(policy.checkpointing(layer)).again;
    if (!again.empty()) return again;
    if (policy.mlp(layer)) again = "the up-projection of the MLP, range by range";
    for (const model::SlotWords& slot : model::saved_slots()) {
      const double part = recomputed_part(policy.slots(layer)[slot.slot]);
      if (part == 0) continue;
      again += fmt::format("{}{:.6g} of {}", again.empty() ? "" : "; ", part, slot.holds);
    }
    return again;
  };
  std::vector<std::string> lines;
  const std::int64_t layers = job.model.num_hidden_layers;
  for (std::int64_t first = 0; first < layers;) {
    const std::string level = level_of(first);
    std::int64_t end = first + 1;
    while (end < layers && level_of(end) == level) ++end;
    if (!level.empty()) lines.push_back(fmt::format("blocks {}-{}: {}", first, end - 1, level));
    first = end;
  }
  lines.emplace_back(
      "everywhere: outputs of norms and of the MLP's activation (no products of matrices)");
  return lines;
}

/// What a job that computes blocks again does not keep waits in no way of its own; says so where
/// that changes the job.
std::string forget_lost_slots(Job& job) {
  const model::SlotTexts before = job.memory.saved_inputs;
  job.memory.saved_inputs = model::SlotTexts::all("full");
  // Always kept.
  job.memory.saved_inputs[model::Slot::kBlockInput] = before[model::Slot::kBlockInput];
  if (!job.memory.codes_saved_inputs()) job.memory.saved_rounding = "nearest";
  return job.memory.saved_inputs == before ? ""
                                           : " with memory.saved_inputs of blocks' inputs alone";
}

/// A planner has the largest groups that there are, and ranks that exchange heads cannot make them
/// again.
bool may_share_more(const Job& job) {
  return job.parallel.data == 0 && !job.parallel.plans_steps() &&
         !job.memory.recomputes_attention();
}

/// The job with rows halved until it fits, or to one token; nothing when they cannot be halved.
std::optional<Remedy> shorter_rows(const Job& job, const PlanSetting& setting,
                                   const std::string& change) {
  const std::uint64_t limit = limit_of(job, setting);
  Job changed = job;
  while (changed.training.micro_batch_tokens > 1) {
    changed.training.micro_batch_tokens = (changed.training.micro_batch_tokens + 1) / 2;
    const std::int64_t rows =
        std::max<std::int64_t>(parallel_layout(changed, setting.ranks).data,
                               job.training.tokens_per_step / changed.training.micro_batch_tokens);
    changed.training.tokens_per_step = rows * changed.training.micro_batch_tokens;
    // A step of many short rows takes long to go through: only where it may fit.
    std::uint64_t peak = needed_at_first(changed, setting);
    if (peak <= limit) peak = needed_by(changed, setting);
    if (peak > limit && changed.training.micro_batch_tokens > 1) continue;
    const std::int64_t step = changed.training.tokens_per_step;
    return Remedy{fmt::format("{}, training.micro_batch_tokens = {}{}", change,
                              changed.training.micro_batch_tokens,
                              step == job.training.tokens_per_step
                                  ? ""
                                  : fmt::format(", training.tokens_per_step = {}", step)),
                  peak, peak <= limit};
  }
  return std::nullopt;
}

}  // namespace

PlanSetting PlanSetting::of(int ranks, const DeviceProfile& device) {
  PlanSetting setting;
  setting.ranks = ranks;
  setting.local_ranks = static_cast<int>(std::min<std::int64_t>(ranks, device.devices_per_node));
  setting.device = device;
  return setting;
}

PlanSetting PlanSetting::of(const CommonJob& job, const comm::Communicator& world) {
  PlanSetting setting = of(world.size(), device_profile(job));
  setting.local_ranks = world.local_size();
  setting.ranks_per_device = ranks_of_device(setting.device.kind, world.local_size());
  return setting;
}

Fit check_fit(const Job& job, const PlanSetting& setting) {
  return {needed_by(job, setting), limit_of(job, setting)};
}

comm::Traffic Plan::sent_per_peer() const {
  comm::Traffic result = sent;
  for (const comm::Collective kind : comm::kCollectives) {
    // Only its Ulysses ranks exchange heads, and only one place of the ring is next.
    const int peers = kind == comm::Collective::kAllToAll      ? sequence.ulysses - 1
                      : kind == comm::Collective::kSendReceive ? 1
                                                               : world_size - 1;
    result[kind] /= static_cast<std::uint64_t>(std::max(peers, 1));
  }
  return result;
}

Plan make_plan(const Job& given, const PlanSetting& setting) {
  Job job = given;
  std::optional<SlotChoice> slots;
  if (given.memory.chooses_saved_inputs()) {
    slots = choose_slots(given, setting);
    job.memory.choose_saved_inputs(slots->texts);
  }
  const DryWorld world(job, setting, assumed_states(job, setting));
  const DryStep dry(job, setting, world.heaviest);
  Plan plan = measured_plan(dry.backend, dry.world.traffic(), world);
  plan.slots = std::move(slots);
  plan.name = job.run.name;
  plan.world_size = setting.ranks;
  plan.data = dry.layout.data;
  plan.sequence = dry.layout.sequence;
  plan.threads = dry.threads;
  plan.parameters = job.model.parameters();
  plan.trained_parameters = job.trained_parameters();
  plan.micro_batch_tokens = job.training.micro_batch_tokens;
  plan.micro_batches = dry.layout.rows_of(job, 0);
  plan.tokens_per_step = job.training.tokens_per_step;
  plan.limit = limit_of(job, setting);
  plan.assumed_states = assumed_states(job, setting);
  plan.host_bytes = host_bytes(job, setting.ranks, dry.host);
  plan.model_flops = dry.model_flops;
  plan.recomputed = describe_recomputation(job);
  plan.live_at_peak = DryStep(job, setting, plan.rank, dry.backend.peak_change()).backend.watched();
  const backend::DryCounts least =
      DryStep(keeping_everything(job), setting, plan.rank).backend.counts();
  plan.recomputed_flops = plan.counts.matmul_flops + plan.counts.attention_flops -
                          least.matmul_flops - least.attention_flops;
  return plan;
}

std::vector<Remedy> find_remedies(const Job& job, const PlanSetting& setting) {
  const std::uint64_t limit = limit_of(job, setting);
  std::vector<Remedy> remedies;
  Job changed = job;
  std::string change;
  // Each remedy on top of those before it, the cheapest in time first.
  const auto attempt = [&](const std::string& what) {
    change += (change.empty() ? "" : ", ") + what;
    const std::uint64_t peak = needed_by(changed, setting);
    remedies.push_back({change, peak, peak <= limit});
    return peak <= limit;
  };
  if (job.has_backward() && changed.memory.activation_checkpointing != "block" &&
      !changed.memory.chooses_checkpointing()) {
    const std::string lost = forget_lost_slots(changed);
    changed.memory.activation_checkpointing = "block_keep_attention";
    if (attempt("memory.activation_checkpointing = \"block_keep_attention\"" + lost)) {
      return remedies;
    }
    changed.memory.activation_checkpointing = "block";
    change.clear();
    if (attempt("memory.activation_checkpointing = \"block\"" + lost)) return remedies;
  }
  changed.memory.mini_sequence_mlp = "16MiB";
  changed.memory.mini_sequence_lm_head = "64MiB";
  if (attempt("memory.mini_sequence = {\"mlp\": \"16MiB\", \"lm_head\": \"64MiB\"}")) {
    return remedies;
  }
  std::string& inputs = changed.memory.saved_inputs[model::Slot::kBlockInput];
  if (job.has_backward() && setting.device.kind != "cpu" && inputs == "full" &&
      !job.memory.chooses_saved_inputs()) {
    inputs = "host";
    if (attempt("memory.saved_inputs.block_input = \"host\"")) return remedies;
  }
  const std::string before_stages = change;
  // Without gradients stage 2 is as 1.
  for (const std::int64_t stage : {job.has_backward() ? 2 : 1, 3}) {
    if (setting.ranks == 1 || stage <= changed.parallel.zero_stage) continue;
    change = before_stages;
    changed.parallel.zero_stage = stage;
    if (attempt(fmt::format("parallel.zero_stage = {}", stage))) return remedies;
  }
  if (job.has_backward() && setting.device.kind != "cpu" && setting.ranks > 1 &&
      changed.parallel.zero_stage >= 2 && changed.parallel.overlap) {
    changed.parallel.overlap = false;
    if (attempt("parallel.overlap = false")) return remedies;
  }
  // More ranks for a row: its tokens are fewer on each.
  const int degree = parallel_layout(job, setting.ranks).sequence.ranks();
  const std::string before = change;
  for (int more = degree + 1; more <= std::min(setting.ranks, kMostSequenceRanks); ++more) {
    if (setting.ranks % more != 0 || !may_share_more(changed)) continue;
    change = before;
    changed.parallel.sequence = std::to_string(more);
    if (attempt(fmt::format("parallel.sequence = {}", more))) return remedies;
  }
  if (const auto shorter = shorter_rows(changed, setting, change)) remedies.push_back(*shorter);
  return remedies;
}

SequenceCost sequence_cost(const Job& job, const PlanSetting& setting) {
  const std::int64_t tokens = job.training.micro_batch_tokens;
  const std::int64_t fewer = (tokens + 1) / 2;
  const auto all = static_cast<double>(needed_by(with_tokens(job, setting, tokens), setting));
  const auto half = static_cast<double>(needed_by(with_tokens(job, setting, fewer), setting));
  SequenceCost cost;
  if (tokens > fewer) cost.bytes_per_token = (all - half) / static_cast<double>(tokens - fewer);
  cost.fixed_bytes = all - cost.bytes_per_token * static_cast<double>(tokens);
  return cost;
}

Job with_longest_sequence(const Job& job, const PlanSetting& setting) {
  const std::uint64_t limit = limit_of(job, setting);
  const auto fits = [&](std::int64_t tokens) {
    return needed_by(with_tokens(job, setting, tokens), setting) <= limit;
  };
  // A plan holds its tokens on the host; nothing longer is of use.
  constexpr std::int64_t kMost = std::int64_t{1} << 27;
  if (!fits(1)) {
    throw InputError(fmt::format(
        "not even one token fits: weights, gradients and optimizer state alone take more than the "
        "{} bytes of {}; raise parallel.zero_stage, use more ranks, a device with more memory or a "
        "smaller model",
        limit, setting.device.name));
  }
  std::int64_t low = 1;
  std::int64_t high = 2;
  while (high <= kMost && fits(high)) {
    low = high;
    high = 2 * high;
  }
  high = std::min(high, kMost + 1);
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return with_tokens(job, setting, low);
}

}  // namespace longspan::train
