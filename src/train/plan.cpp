#include "longspan/train/plan.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/comm/dry.h"
#include "train/resources.h"
#include "train/training_step.h"

namespace longspan::train {
namespace {

using backend::DeviceProfile;
using backend::DryBackend;
using base::InputError;

/// oneDNN's scratch depends on the number of threads, which is the process's.
class WithThreads {
 public:
  explicit WithThreads(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ~WithThreads() { omp_set_num_threads(before_); }
  WithThreads(const WithThreads&) = delete;
  WithThreads& operator=(const WithThreads&) = delete;

 private:
  int before_;
};

std::uint64_t limit_of(const Job& job, const PlanSetting& setting) {
  const DeviceProfile& device = setting.device;
  if (device.kind == "cpu" && device.memory == 0) return memory_limit(job, setting.local_ranks);
  const std::uint64_t usable = device.memory - std::min(device.memory, device.reserved);
  return job.memory.limit > 0 ? std::min(job.memory.limit, usable) : usable;
}

/// A full row: one document, every label counts.
std::shared_ptr<const data::MicroBatch> full_micro_batch(std::int64_t tokens) {
  auto batch = std::make_shared<data::MicroBatch>();
  const auto count = static_cast<std::size_t>(tokens);
  batch->tokens.assign(count, 0);
  batch->labels.assign(count, 0);
  batch->positions.resize(count);
  std::iota(batch->positions.begin(), batch->positions.end(), 0);
  batch->cu_seqlens = {0, static_cast<std::int32_t>(tokens)};
  batch->targets = tokens;
  return batch;
}

std::int64_t rows_of(int rank, const Job& job, int ranks) {
  check_ranks(job, ranks);
  const std::int64_t rows = job.training.tokens_per_step / job.training.micro_batch_tokens;
  return (rows - rank + ranks - 1) / ranks;
}

/// One dry step of a rank.
struct DryStep {
  DryStep(const Job& job, const PlanSetting& setting, int rank = 0, std::int64_t watched = -1)
      : threads(thread_count(job, setting.local_ranks)),
        limited(threads),
        backend(setting.device, threads),
        world(rank, setting.ranks, backend),
        host(host_of(job, setting)),
        step(job, watch(watched), world, host ? &*host : nullptr) {
    backend.start_step();
    if (host) host->start_step();
    std::vector<std::shared_ptr<const data::MicroBatch>> batches(
        static_cast<std::size_t>(rows_of(rank, job, setting.ranks)),
        full_micro_batch(job.training.micro_batch_tokens));
    pad_micro_batches(batches, rows_of(0, job, setting.ranks));
    sums = step.forward_backward(batches);
    step.update(0, 0.0);
  }

  /// Keeps the optimizer's state when the job says so.
  static std::optional<DryBackend> host_of(const Job& job, const PlanSetting& setting) {
    check_offload(job, setting.device.kind);
    if (job.optimizer.offload == "none") return std::nullopt;
    return std::optional<DryBackend>(std::in_place, DeviceProfile::load("cpu"), 1);
  }

  DryBackend& watch(std::int64_t change) {
    backend.watch(change);
    return backend;
  }

  int threads;
  WithThreads limited;
  DryBackend backend;
  comm::DryCommunicator world;
  std::optional<DryBackend> host;
  TrainingStep step;
  TrainingStep::Sums sums;
};

/// Ranks that send the same bytes in a step: one of them, and how many there are.
struct AlikeRanks {
  int rank = 0;
  std::uint64_t count = 0;
};

/// What a rank sends is decided by its rows, and by how much of whatever is summed or gathered over
/// all ranks is its own.
std::vector<AlikeRanks> alike_ranks(const Job& job, const PlanSetting& setting,
                                    const nn::ParameterSet& parameters) {
  const shard::Partition& partition = parameters.partition();
  const comm::Offsets even = comm::even_offsets(parameters.elements(), setting.ranks);
  std::map<std::vector<std::int64_t>, AlikeRanks> kinds;
  for (int rank = 0; rank < setting.ranks; ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    std::vector<std::int64_t> traits = {rows_of(rank, job, setting.ranks)};
    if (partition.ranks() == 1) {
      traits.push_back(even[at + 1] - even[at]);
    } else {
      for (int unit = 0; unit < partition.units(); ++unit) {
        traits.push_back(partition.piece(unit, rank).size());
      }
    }
    AlikeRanks& kind = kinds[traits];
    if (kind.count++ == 0) kind.rank = rank;
  }
  std::vector<AlikeRanks> alike;
  for (const auto& [traits, kind] : kinds) alike.push_back(kind);
  return alike;
}

/// What all ranks send together in one step: one rank of each kind is run.
comm::Traffic world_traffic(const Job& job, const PlanSetting& setting,
                            const nn::ParameterSet& parameters) {
  comm::Traffic all;
  for (const AlikeRanks& kind : alike_ranks(job, setting, parameters)) {
    const DryStep dry(job, setting, kind.rank);
    for (std::size_t i = 0; i < comm::kCollectives; ++i) {
      const auto collective = static_cast<comm::Collective>(i);
      all[collective] += kind.count * dry.world.traffic()[collective];
    }
  }
  return all;
}

std::uint64_t bytes_of_states(const backend::Ledger& ledger) {
  return ledger.peak(backend::MemoryTag::kWeights) + ledger.peak(backend::MemoryTag::kGradients) +
         ledger.peak(backend::MemoryTag::kOptimizer);
}

/// 0 when the setting assumes nothing.
std::uint64_t assumed_states(const Job& job, const PlanSetting& setting) {
  return static_cast<std::uint64_t>(setting.state_bytes_per_parameter *
                                    static_cast<double>(job.model.parameters()));
}

/// Bytes that a rank needs at once, with the states that the setting assumes.
std::uint64_t needed_by(const Job& job, const PlanSetting& setting) {
  const DryStep dry(job, setting);
  const backend::Ledger& ledger = dry.backend.ledger();
  const std::uint64_t assumed = assumed_states(job, setting);
  return assumed == 0 ? ledger.peak_total()
                      : ledger.peak_total() - bytes_of_states(ledger) + assumed;
}

/// The job with one row of so many tokens a rank.
Job with_tokens(const Job& job, const PlanSetting& setting, std::int64_t tokens) {
  Job changed = job;
  changed.training.micro_batch_tokens = tokens;
  changed.training.tokens_per_step = tokens * setting.ranks;
  changed.model.max_position_embeddings = std::max(job.model.max_position_embeddings, tokens);
  return changed;
}

/// The same job where nothing is computed twice.
Job keeping_everything(const Job& job) {
  Job keeps = job;
  keeps.memory.activation_checkpointing = "none";
  keeps.memory.mini_sequence_mlp = "none";
  return keeps;
}

std::vector<std::string> describe_recomputation(const Job& job) {
  const model::MemoryPolicy policy = memory_policy(job);
  const auto level_of = [&](std::int64_t layer) {
    switch (policy.checkpointing(layer)) {
      case model::Checkpointing::kBlock:
        return "the block as far as its MLP, whose range by range";
      case model::Checkpointing::kBlockKeepAttention:
        return "the block without its attention as far as its MLP, whose range by range";
      case model::Checkpointing::kNone:
        break;
    }
    return policy.mlp(layer) ? "gate and up of the MLP, range by range" : "";
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
  lines.emplace_back("everywhere: norm outputs and SwiGLU products (no products of matrices)");
  return lines;
}

}  // namespace

PlanSetting PlanSetting::of(int ranks, const DeviceProfile& device) {
  PlanSetting setting;
  setting.ranks = ranks;
  setting.local_ranks = static_cast<int>(std::min<std::int64_t>(ranks, device.devices_per_node));
  setting.device = device;
  return setting;
}

Fit check_fit(const Job& job, const PlanSetting& setting) {
  return {needed_by(job, setting), limit_of(job, setting)};
}

comm::Traffic Plan::sent_per_peer() const {
  const auto peers = static_cast<std::uint64_t>(std::max(world_size - 1, 1));
  comm::Traffic result = sent;
  for (std::size_t kind = 0; kind < comm::kCollectives; ++kind) {
    result[static_cast<comm::Collective>(kind)] /= peers;
  }
  return result;
}

Plan make_plan(const Job& job, const PlanSetting& setting) {
  DryStep dry(job, setting);
  Plan plan;
  plan.name = job.run.name;
  plan.world_size = setting.ranks;
  plan.threads = dry.threads;
  plan.device = dry.backend.profile();
  plan.parameters = job.model.parameters();
  plan.micro_batch_tokens = job.training.micro_batch_tokens;
  plan.micro_batches = rows_of(0, job, setting.ranks);
  plan.tokens_per_step = job.training.tokens_per_step;
  const backend::Ledger& ledger = dry.backend.ledger();
  for (std::size_t tag = 0; tag < backend::kMemoryTags; ++tag) {
    plan.peak_bytes[tag] = ledger.peak(static_cast<backend::MemoryTag>(tag));
  }
  plan.peak_total = ledger.peak_total();
  plan.peak_place = ledger.peak_place().to_string();
  plan.limit = limit_of(job, setting);
  plan.state_bytes = bytes_of_states(ledger);
  plan.assumed_states = assumed_states(job, setting);
  plan.host_bytes = dry.host ? dry.host->ledger().peak_total() : 0;
  plan.phases = dry.backend.phases();
  plan.timeline = dry.backend.timeline();
  plan.counts = dry.backend.counts();
  plan.model_flops = dry.sums.flops;
  plan.recomputed = describe_recomputation(job);
  plan.sent = dry.world.traffic();
  plan.world_sent = world_traffic(job, setting, dry.step.model().parameters());
  plan.live_at_peak = DryStep(job, setting, 0, dry.backend.peak_change()).backend.watched();
  const backend::DryCounts least = DryStep(keeping_everything(job), setting).backend.counts();
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
  if (changed.memory.activation_checkpointing != "block") {
    changed.memory.activation_checkpointing = "block_keep_attention";
    if (attempt("memory.activation_checkpointing = \"block_keep_attention\"")) return remedies;
    changed.memory.activation_checkpointing = "block";
    change.clear();
    if (attempt("memory.activation_checkpointing = \"block\"")) return remedies;
  }
  changed.memory.mini_sequence_mlp = "16MiB";
  changed.memory.mini_sequence_lm_head = "64MiB";
  if (attempt("memory.mini_sequence = {\"mlp\": \"16MiB\", \"lm_head\": \"64MiB\"}")) {
    return remedies;
  }
  const std::string base = change;
  while (changed.training.micro_batch_tokens > 1) {
    changed.training.micro_batch_tokens = (changed.training.micro_batch_tokens + 1) / 2;
    const std::int64_t rows = std::max<std::int64_t>(
        setting.ranks, job.training.tokens_per_step / changed.training.micro_batch_tokens);
    changed.training.tokens_per_step = rows * changed.training.micro_batch_tokens;
    const std::uint64_t peak = needed_by(changed, setting);
    if (peak > limit && changed.training.micro_batch_tokens > 1) continue;
    const std::int64_t step = changed.training.tokens_per_step;
    remedies.push_back({fmt::format("{}, training.micro_batch_tokens = {}{}", base,
                                    changed.training.micro_batch_tokens,
                                    step == job.training.tokens_per_step
                                        ? ""
                                        : fmt::format(", training.tokens_per_step = {}", step)),
                        peak, peak <= limit});
    break;
  }
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
        "{} bytes of {}; use a device with more memory or a smaller model",
        limit, setting.device.name));
  }
  std::int64_t low = 1;
  std::int64_t high = 2;
  while (high < kMost && fits(high)) {
    low = high;
    high = std::min(2 * high, kMost);
  }
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return with_tokens(job, setting, low);
}

}  // namespace longspan::train
