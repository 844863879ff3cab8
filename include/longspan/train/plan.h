#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "longspan/backend/device_profile.h"
#include "longspan/backend/dry.h"
#include "longspan/comm/communicator.h"
#include "longspan/shard/token_layout.h"
#include "longspan/train/job.h"
#include "longspan/train/slot_choice.h"

namespace longspan::train {

/// On what a job is planned: how many ranks, in all and on each machine, and what each of them is.
struct PlanSetting {
  int ranks = 1;
  int local_ranks = 1;
  int ranks_per_device = 1;  ///< that share a device which is no processor
  backend::DeviceProfile device;
  /// What if weights, gradients and optimizer state took so many bytes a parameter in all? 0: they
  /// take what they take.
  double state_bytes_per_parameter = 0;

  /// Ranks that fill machines of this device one after another.
  static PlanSetting of(int ranks, const backend::DeviceProfile& device);
  /// The ranks of this world and the job's devices on their machines.
  static PlanSetting of(const CommonJob& job, const comm::Communicator& world);
};

/// What one step of a job takes of one rank: of those with most rows, the one that needs most
/// memory. Found by running the trainer's own step on backends and communicators that compute
/// nothing. Every micro-batch is taken as full, one document, all of whose labels count: no step
/// takes more.
struct Plan {
  std::string name;
  int world_size = 1;
  int rank = 0;                     ///< the one that needs most
  int data = 1;                     ///< groups of ranks that take rows
  shard::SequenceDegrees sequence;  ///< the ranks of each
  std::string sharing;              ///< of clips, how these do it: "dynamic"; of texts empty
  /// Of clips that ranks share dynamically: what full micro-batches of the extents that need most
  /// have, and what was planned where mixtures may have one that needs more; else empty.
  std::string placement;
  std::string planned_placement;
  std::map<std::string, int> placements;  ///< of how many extents it is which
  int threads = 1;                        ///< of a rank, for devices of kind "cpu"
  backend::DeviceProfile device;
  std::int64_t parameters = 0;
  std::int64_t trained_parameters = 0;  ///< of an adapter; else all
  std::int64_t micro_batch_tokens = 0;
  std::int64_t micro_batches = 0;  ///< of a group, in a step
  std::int64_t tokens_per_step = 0;

  /// The ledger's, by tag: of each the most of all ranks.
  std::array<std::uint64_t, backend::kMemoryTags> peak_bytes{};
  std::uint64_t peak_total = 0;
  std::string peak_place;
  std::uint64_t gaps = 0;            ///< that the rank needs beyond it: see DryBackend::footprint
  std::uint64_t limit = 0;           ///< bytes that the rank may take
  std::uint64_t state_bytes = 0;     ///< of it, weights, gradients and optimizer state
  std::uint64_t assumed_states = 0;  ///< what they were assumed to take instead; 0: nothing was
  std::uint64_t host_bytes = 0;      ///< of the rank's host, for what is offloaded
  std::optional<SlotChoice> slots;   ///< of memory.saved_inputs.policy "auto"
  std::vector<backend::DryAllocation> live_at_peak;
  std::vector<backend::DryPhase> phases;
  std::vector<backend::DrySample> timeline;

  backend::DryCounts counts;
  double recomputed_flops = 0;          ///< of these, in products and attention that ran before
  double model_flops = 0;               ///< of this rank
  std::vector<std::string> recomputed;  ///< in words
  comm::Traffic sent;                   ///< by this rank, to whichever ranks
  comm::Traffic world_sent;             ///< by all ranks: comm_bytes of metrics.jsonl

  /// The peak with its gaps, or what it would be with the states that were assumed.
  std::uint64_t needed() const {
    const std::uint64_t all = peak_total + gaps;
    return assumed_states == 0 ? all : all - state_bytes + assumed_states;
  }
  /// Bytes that this rank sends to each of those that it sends any of a kind (alike but for
  /// rounding): heads to its Ulysses ranks, keys and values to its next of the ring, the rest to
  /// all.
  comm::Traffic sent_per_peer() const;
  bool fits() const { return needed() <= limit; }
  double seconds() const { return counts.seconds(); }
};

/// Peak bytes of a step on a rank, and the most it may take: all that is needed to tell whether a
/// job fits.
struct Fit {
  std::uint64_t peak_total = 0;
  std::uint64_t limit = 0;
  bool fits() const { return peak_total <= limit; }
};
Fit check_fit(const Job& job, const PlanSetting& setting);

/// These throw InputError when the job cannot be trained by so many ranks.
Plan make_plan(const Job& job, const PlanSetting& setting);

/// What would make a job that does not fit take less: changes tried one after another, the last of
/// which is the first that fits (if any does).
struct Remedy {
  std::string change;  ///< in the job file's words
  std::uint64_t peak_total = 0;
  bool fits = false;
};
std::vector<Remedy> find_remedies(const Job& job, const PlanSetting& setting);

/// The same for a terminal.
std::string remedies_text(const Job& job, const PlanSetting& setting);

/// The job with the longest micro-batch that fits: `tokens_per_step` becomes one such row a group,
/// and max_position_embeddings at least as long. At most 2^27 tokens. Throws InputError when not
/// even one token fits.
Job with_longest_sequence(const Job& job, const PlanSetting& setting);

/// How a rank's memory grows with its sequence: between half of the job's micro-batch and all of
/// it.
struct SequenceCost {
  double fixed_bytes = 0;
  double bytes_per_token = 0;
};
SequenceCost sequence_cost(const Job& job, const PlanSetting& setting);

/// The plan for a terminal; as one line of JSON; and the memory of its step as an SVG picture.
std::string plan_text(const Plan& plan);
std::string plan_json(const Plan& plan);
std::string plan_picture(const Plan& plan);

}  // namespace longspan::train
