#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "longspan/backend/dry.h"
#include "longspan/comm/dry.h"
#include "longspan/data/sampler.h"
#include "longspan/model/decoder.h"
#include "longspan/train/job.h"
#include "longspan/train/plan.h"
#include "train/parallel_layout.h"
#include "train/training_step.h"

namespace longspan::train {

/// oneDNN's scratch depends on the number of threads, which is the process's.
class WithThreads {
 public:
  explicit WithThreads(int threads);
  ~WithThreads();
  WithThreads(const WithThreads&) = delete;
  WithThreads& operator=(const WithThreads&) = delete;

 private:
  int before_;
};

/// The same backend, which watches this change: see DryBackend::watch.
backend::DryBackend& watching(backend::DryBackend& backend, std::int64_t change);

/// Bytes that a rank must have so far, gaps included. `assumed_states` stand for those of the
/// states; 0: they are what they are.
std::uint64_t needed_of(const backend::DryBackend& backend, std::uint64_t assumed_states);

/// A rank that computes nothing, before its first step.
struct DryRank {
  /// `watched`: see DryBackend::watch. Throws InputError as parallel_layout does.
  DryRank(const Job& given, const PlanSetting& setting, int rank, std::int64_t watched = -1);

  Job job;  ///< with "auto" for memory.saved_inputs.policy as it chooses
  int threads;
  WithThreads limited;
  backend::DryBackend backend;
  ParallelLayout layout;
  comm::DryCommunicator world;
  shard::Meshes meshes;
  std::optional<backend::DryBackend> host;  ///< see uses_host
  TrainingStep step;

  /// See needed_of.
  std::uint64_t needed(std::uint64_t assumed_states) const {
    return needed_of(backend, assumed_states);
  }
};

/// One step of such a rank: the trainer's, with full rows.
struct DryStep : DryRank {
  DryStep(const Job& given, const PlanSetting& setting, int rank, std::int64_t watched = -1);

  double model_flops = 0;  ///< of this rank
};

/// Bytes that a rank may take.
std::uint64_t limit_of(const CommonJob& job, const PlanSetting& setting);

/// What the setting says that states take; 0: it assumes nothing.
std::uint64_t assumed_states(const Job& job, const PlanSetting& setting);

/// Ranks that do the same in a step of full rows: one of them, and how many there are.
struct AlikeRanks {
  int rank = 0;
  std::uint64_t count = 0;
};
std::vector<AlikeRanks> alike_ranks(const Job& job, const ParallelLayout& layout, int ranks,
                                    model::Decoder& model);

/// A row of documents of `longest` tokens and a shorter one, all of whose labels count. Ids are
/// spread over the vocabulary.
std::shared_ptr<const data::MicroBatch> full_row(std::int64_t tokens, std::int64_t longest,
                                                 std::int64_t vocab_size = 1);

/// Weights, gradients and optimizer state, at their peaks.
std::uint64_t bytes_of_states(const backend::Ledger& ledger);
/// Of all tensors in a checkpoint of a step that computes nothing.
std::uint64_t state_bytes(ParameterStep& step, backend::Backend& backend);
/// The host of a rank that computes nothing, where the job offloads anything. Throws InputError as
/// check_offload does.
std::optional<backend::DryBackend> dry_host(const CommonJob& job, const PlanSetting& setting);
/// Of it what a run takes: a step's, and for states of which other ranks have parts, the piece of
/// them that rank 0 asks for as it saves.
std::size_t host_bytes(const CommonJob& job, int ranks,
                       const std::optional<backend::DryBackend>& host);
/// Bytes of all tensors in a checkpoint of the job.
std::uint64_t checkpoint_bytes(const Job& job);

/// The same by `traits` of each rank, which are in common where they do the same, and by how much
/// of each unit of these partitions is a rank's.
std::vector<AlikeRanks> alike_ranks(int ranks,
                                    const std::vector<const shard::Partition*>& partitions,
                                    const std::function<std::vector<std::int64_t>(int)>& traits);

/// What a device must have of memory beyond the ledger's peak: a GPU's is reserved in one piece, a
/// processor's has as many addresses as one likes.
std::uint64_t gaps_of(const backend::DryBackend& backend);

/// What a step takes of all ranks.
struct WorldPeaks {
  /// A step of a rank of each kind (`backend` and `world` of it are looked at), for all of that
  /// kind: `first` of rank 0, which has run, and what `make` gives of the others.
  template <typename Step, typename Make>
  void take_all(const std::vector<AlikeRanks>& kinds, const Step& first,
                std::uint64_t assumed_states, const Make& make) {
    const auto take_step = [&](const Step& step, const AlikeRanks& kind) {
      take(kind, step.backend, step.world.traffic(), assumed_states);
    };
    for (const AlikeRanks& kind : kinds) {
      if (kind.rank == 0) {
        take_step(first, kind);
      } else {
        take_step(make(kind.rank), kind);
      }
    }
  }

  int heaviest = 0;                                              ///< the rank that needs most
  std::uint64_t needed = 0;                                      ///< by it
  std::array<std::uint64_t, backend::kMemoryTags> peak_bytes{};  ///< of each tag the most
  comm::Traffic sent;                                            ///< by all

 private:
  void take(const AlikeRanks& kind, const backend::DryBackend& backend,
            const comm::Traffic& traffic, std::uint64_t assumed_states);
};

/// The same of a job's step. Ranks that do the same are run once.
struct DryWorld : WorldPeaks {
  /// `assumed_states`: bytes that stand for those of the states; 0: they are what they are.
  DryWorld(const Job& given, const PlanSetting& setting, std::uint64_t assumed_states);
};

/// The part of a plan that a rank's step shows, whatever the model: `backend` and `traffic` are
/// those of the rank that needs most.
Plan measured_plan(const backend::DryBackend& backend, const comm::Traffic& traffic,
                   const WorldPeaks& world);

}  // namespace longspan::train
