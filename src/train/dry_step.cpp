#include "train/dry_step.h"

#include <omp.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "longspan/checkpoint/safetensors.h"
#include "longspan/train/device.h"
#include "train/resources.h"
#include "train/slot_choice.h"
#include "train/states.h"
#include "train/step_plan.h"

namespace longspan::train {
namespace {

/// Of each unit.
void append_shares(std::vector<comm::Offsets>& shares, const shard::Partition& partition,
                   int ranks) {
  for (int unit = 0; unit < partition.units(); ++unit) {
    shares.push_back(partition.ranks() > 1
                         ? partition.offsets(unit)
                         : comm::even_offsets(partition.unit(unit).size(), ranks));
  }
}

}  // namespace

std::vector<AlikeRanks> alike_ranks(int ranks,
                                    const std::vector<const shard::Partition*>& partitions,
                                    const std::function<std::vector<std::int64_t>(int)>& traits) {
  std::vector<comm::Offsets> shares;
  for (const shard::Partition* partition : partitions) append_shares(shares, *partition, ranks);
  std::map<std::vector<std::int64_t>, AlikeRanks> kinds;
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<std::int64_t> all = traits(rank);
    const auto at = static_cast<std::size_t>(rank);
    for (const comm::Offsets& share : shares) all.push_back(share[at + 1] - share[at]);
    AlikeRanks& kind = kinds[std::move(all)];
    if (kind.count++ == 0) kind.rank = rank;
  }
  std::vector<AlikeRanks> alike;
  for (const auto& [common, kind] : kinds) alike.push_back(kind);
  std::sort(alike.begin(), alike.end(),
            [](const AlikeRanks& a, const AlikeRanks& b) { return a.rank < b.rank; });
  return alike;
}

/// What a rank does is decided by its rows, by what of a row is its own, and by how much of
/// whatever is summed or gathered over all ranks is.
std::vector<AlikeRanks> alike_ranks(const Job& job, const ParallelLayout& layout, int ranks,
                                    model::Decoder& model) {
  const int degree = layout.sequence.ranks();
  std::vector<std::vector<std::int64_t>> of_place;
  for (int place = 0; place < degree; ++place) {
    of_place.push_back(place_traits(job, layout.sequence, place));
  }
  std::vector<const shard::Partition*> partitions = {&model.parameters().partition()};
  if (model.adapters() != nullptr) partitions.push_back(&model.adapters()->partition());
  if (job.velora.is_on()) partitions.push_back(&model.trained().gradient_partition());
  return alike_ranks(ranks, partitions, [&](int rank) {
    std::vector<std::int64_t> traits = of_place[static_cast<std::size_t>(rank % degree)];
    traits.push_back(layout.rows_of(job, rank / degree));
    return traits;
  });
}

std::shared_ptr<const data::MicroBatch> full_row(std::int64_t tokens, std::int64_t longest,
                                                 std::int64_t vocab_size) {
  auto row = std::make_shared<data::MicroBatch>();
  const auto count = static_cast<std::size_t>(tokens);
  row->tokens.assign(count, 0);
  row->labels.assign(count, 0);
  row->positions.resize(count);
  row->cu_seqlens = {0};
  row->targets = tokens;
  for (std::int64_t begin = 0; begin < tokens; begin += longest) {
    const std::int64_t end = std::min(begin + longest, tokens);
    std::iota(row->positions.begin() + begin, row->positions.begin() + end, 0);
    row->cu_seqlens.push_back(static_cast<std::int32_t>(end));
  }
  if (vocab_size == 1) return row;
  constexpr std::int64_t kStride = 7919;  // a prime: ids that follow each other are far apart
  for (std::size_t at = 0; at < count; ++at) {
    const std::int64_t next = static_cast<std::int64_t>(at + 1) * kStride % vocab_size;
    row->labels[at] = static_cast<std::int32_t>(next);
    if (at + 1 < count) row->tokens[at + 1] = static_cast<data::TokenId>(next);
  }
  return row;
}

WithThreads::WithThreads(int threads) : before_(omp_get_max_threads()) {
  omp_set_num_threads(threads);
}

WithThreads::~WithThreads() { omp_set_num_threads(before_); }

DryRank::DryRank(const Job& given, const PlanSetting& setting, int rank, std::int64_t watched)
    : job(with_chosen_slots(given, setting)),
      threads(thread_count(job, setting.local_ranks)),
      limited(threads),
      backend(setting.device, threads),
      layout(parallel_layout(job, setting.ranks)),
      world(rank, setting.ranks, backend, setting.ranks_per_device > 1),
      meshes(world, {layout.sequence}),
      host(dry_host(job, setting)),
      step(job, watching(backend, watched), world, host ? &*host : nullptr) {
  step.skip_preparation();
  backend.start_step();
  if (host) host->start_step();
}

backend::DryBackend& watching(backend::DryBackend& backend, std::int64_t change) {
  backend.watch(change);
  return backend;
}

std::uint64_t needed_of(const backend::DryBackend& backend, std::uint64_t assumed_states) {
  const backend::Ledger& ledger = backend.ledger();
  const std::uint64_t states = assumed_states == 0 ? 0 : bytes_of_states(ledger);
  return ledger.peak_total() + gaps_of(backend) - states + assumed_states;
}

DryStep::DryStep(const Job& given, const PlanSetting& setting, int rank, std::int64_t watched)
    : DryRank(given, setting, rank, watched) {
  const std::int64_t tokens = job.training.micro_batch_tokens;
  const auto full = full_row(tokens, tokens);
  const plan::StepPlan plan =
      fixed_plan(ParallelLayout::rows(job), setting.ranks, layout.sequence.ranks());
  const auto passes = passes_of(plan, meshes, [&](std::size_t) { return full; });
  for (const RankPass& pass : passes) {
    const int sharing = pass.mesh == nullptr ? 1 : pass.mesh->degrees().ranks();
    model_flops += job.training_flops(pass.batch->cu_seqlens) / sharing;
  }
  step.forward_backward(passes);
  step.update(0, 0.0);
}

std::uint64_t bytes_of_states(const backend::Ledger& ledger) {
  return ledger.peak(backend::MemoryTag::kWeights) + ledger.peak(backend::MemoryTag::kGradients) +
         ledger.peak(backend::MemoryTag::kOptimizer);
}

std::optional<backend::DryBackend> dry_host(const CommonJob& job, const PlanSetting& setting) {
  check_offload(job, setting.device.kind);
  if (!uses_host(job)) return std::nullopt;
  return std::optional<backend::DryBackend>(std::in_place, backend::DeviceProfile::load("cpu"), 1);
}

std::size_t host_bytes(const CommonJob& job, int ranks,
                       const std::optional<backend::DryBackend>& host) {
  if (!host) return 0;
  const bool asks = job.optimizer.offload == "host" && ranks > 1;
  return host->footprint() + (asks ? checkpoint::kMostBytesRead : 0);
}

std::uint64_t state_bytes(ParameterStep& step, backend::Backend& backend) {
  // An optimizer that chooses parameters keeps about as much of one choice as of another.
  const std::vector<double> equal(step.parameters().parameters().size(), 1.0);
  if (step.optimizer().observe(0.0)) step.optimizer().choose(equal);
  std::vector<StateTensor> states = step.optimizer().states();
  for (StateTensor& weights : weights_of(step.parameters(), backend)) {
    states.push_back(std::move(weights));
  }
  std::uint64_t bytes = 0;
  for (const StateTensor& state : states) {
    bytes += static_cast<std::uint64_t>(state.shape.elements()) * base::size_of(state.held.dtype());
  }
  return bytes;
}

std::uint64_t checkpoint_bytes(const Job& job) {
  backend::DryBackend nothing(backend::DeviceProfile::load("h200"), 1);
  const auto alone = comm::make_single_communicator();
  TrainingStep step(job, nothing, *alone);
  return state_bytes(step.parameters(), nothing);
}

std::uint64_t gaps_of(const backend::DryBackend& backend) {
  return backend.profile().kind == "cpu" ? 0 : backend.footprint() - backend.ledger().peak_total();
}

std::uint64_t limit_of(const CommonJob& job, const PlanSetting& setting) {
  const bool is_cpu = setting.device.kind == "cpu";
  return device_memory(job, setting.device,
                       is_cpu ? setting.local_ranks : setting.ranks_per_device);
}

std::uint64_t assumed_states(const Job& job, const PlanSetting& setting) {
  return static_cast<std::uint64_t>(setting.state_bytes_per_parameter *
                                    static_cast<double>(job.model.parameters()));
}

void WorldPeaks::take(const AlikeRanks& kind, const backend::DryBackend& backend,
                      const comm::Traffic& traffic, std::uint64_t assumed_states) {
  const std::uint64_t total = needed_of(backend, assumed_states);
  if (total > needed) heaviest = kind.rank;
  needed = std::max(needed, total);
  for (std::size_t tag = 0; tag < backend::kMemoryTags; ++tag) {
    const std::uint64_t peak = backend.ledger().peak(static_cast<backend::MemoryTag>(tag));
    peak_bytes[tag] = std::max(peak_bytes[tag], peak);
  }
  for (const comm::Collective collective : comm::kCollectives) {
    sent[collective] += kind.count * traffic[collective];
  }
}

DryWorld::DryWorld(const Job& given, const PlanSetting& setting, std::uint64_t assumed_states) {
  const Job job = with_chosen_slots(given, setting);
  DryStep first(job, setting, 0);
  take_all(alike_ranks(job, first.layout, setting.ranks, first.step.model()), first, assumed_states,
           [&](int rank) { return DryStep(job, setting, rank); });
}

Plan measured_plan(const backend::DryBackend& backend, const comm::Traffic& traffic,
                   const WorldPeaks& world) {
  Plan plan;
  plan.rank = world.heaviest;
  plan.device = backend.profile();
  const backend::Ledger& ledger = backend.ledger();
  plan.peak_bytes = world.peak_bytes;
  plan.peak_total = ledger.peak_total();
  plan.peak_place = ledger.peak_place().to_string();
  plan.gaps = gaps_of(backend);
  plan.state_bytes = bytes_of_states(ledger);
  plan.phases = backend.phases();
  plan.timeline = backend.timeline();
  plan.counts = backend.counts();
  plan.sent = traffic;
  plan.world_sent = world.sent;
  return plan;
}

}  // namespace longspan::train
