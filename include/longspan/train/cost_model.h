#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/plan/cost_model.h"
#include "longspan/train/job.h"
#include "longspan/train/plan.h"

// What groups of ranks cost, for planners of steps: predicted by the trainer's own passes on a
// backend that computes nothing, or measured. Groups have 1, 2, 4, … ranks, as far as the ranks are
// a multiple of it, and divide sequences as parallel.sequence with that number does. None has
// sequences that are longer than training.micro_batch_tokens.
namespace longspan::train {

struct CostOptions {
  /// Of memory.activation_checkpointing, of which a planner chooses one for each group. None: all
  /// that there are, where that is "auto"; else the job's own.
  std::vector<std::string> levels;
  /// Most tokens that a rank has in a pass that is looked at; 0: as many as it has room for, but no
  /// more in a group than are in a step.
  std::int64_t most_tokens = 0;
};

/// A pass of full micro-batches on all ranks that a cost model was fitted to.
struct CostCheck {
  std::size_t kind = 0;      ///< in CostModel::kinds
  std::int64_t tokens = 0;   ///< of a group, in documents of
  std::int64_t longest = 0;  ///< tokens and one of what is left
  double seconds = 0;        ///< that it took
  double fitted = 0;         ///< that the model says it takes

  double error() const { return fitted / seconds - 1; }
};

struct Costs {
  plan::CostModel model;
  std::vector<CostCheck> checks;

  /// The largest error, up or down.
  double worst_error() const;
};

/// From the dry backend. Kinds of which not even one token fits are left out; throws InputError
/// when that leaves none, a level is none, or the job cannot be trained by so many ranks.
Costs predict_costs(const Job& job, const PlanSetting& setting, const CostOptions& options = {});
plan::CostModel make_cost_model(const Job& job, const PlanSetting& setting);

/// From passes forward and backward, without optimizer, that these ranks run now: of each the
/// median of `repeats`, which go around all kinds and sizes in turn, as the slowest rank saw it.
/// What fits is predicted. Called by all ranks, who get the same; throws as predict_costs does.
Costs measure_costs(const Job& job, comm::Communicator& world, int repeats,
                    const CostOptions& options = {});

/// Most tokens, in whatever documents of at most training.micro_batch_tokens, that a group of so
/// many ranks has room for in training and validation, under the job's own level and ZeRO stage; no
/// more than a step ever has: training.tokens_per_step and a document. 0 when not one fits. A
/// little less than what fits, by less than a fiftieth, as what operations take does not grow
/// evenly. On a GPU, documents have 16 tokens or more on average.
std::int64_t group_capacity(const Job& job, const PlanSetting& setting, int degree);

/// For a terminal: each kind, then how well the passes fit.
std::string costs_text(const Costs& costs);

}  // namespace longspan::train
