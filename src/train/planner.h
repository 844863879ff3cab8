#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/plan/cost_model.h"
#include "longspan/plan/step_plan.h"
#include "longspan/shard/token_layout.h"
#include "longspan/train/job.h"
#include "train/metrics.h"

namespace longspan::train {

/// Who runs what in the steps of a run. Every rank has one, and calls the same.
class Planner {
 public:
  virtual ~Planner() = default;
  Planner() = default;
  Planner(const Planner&) = delete;
  Planner& operator=(const Planner&) = delete;

  /// Of the groups in its plans: what shard::Meshes wants.
  virtual std::vector<shard::SequenceDegrees> degrees() const = 0;
  /// Of the sequences of step `step`, which counts from 0. All ranks get the same.
  virtual plan::StepPlan plan(std::int64_t step) = 0;
  /// Of rows of micro_batch_tokens, such as validation has.
  virtual plan::StepPlan plan_rows(std::int64_t rows) const = 0;
  /// Of the kinds in its plans, as GroupKind::level has them, on every rank: for policies_of.
  virtual std::vector<std::string> levels() const { return {}; }
  /// In words.
  virtual std::string text() const = 0;
  /// Of the last plan, on rank 0; nothing where there is nothing to choose.
  virtual std::optional<PlanMetrics> metrics() const { return std::nullopt; }
};

/// Rows in groups that are alike (fixed_plan).
std::unique_ptr<Planner> make_fixed_planner(const Job& job, int ranks);

/// The tokens of each sequence of a step.
using StepLengths = std::function<std::vector<std::int64_t>(std::int64_t step)>;

/// Plans each step for the lengths of its sequences, as parallel.planner says. Rank 0 does so in a
/// thread, while the step before runs, for the steps before `end`, and sends every rank the same
/// plan, which it has checked. What goes wrong there is thrown by `plan`, on all ranks. `costs` are
/// rank 0's. Throws InputError, on all ranks, when no group has room for the longest sequence.
std::unique_ptr<Planner> make_step_planner(const Job& job, const plan::CostModel& costs,
                                           comm::Communicator& world, StepLengths lengths,
                                           std::int64_t end);

}  // namespace longspan::train
