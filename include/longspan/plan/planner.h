#pragma once

#include <cstdint>
#include <vector>

#include "longspan/plan/cost_model.h"
#include "longspan/plan/step_plan.h"

namespace longspan::plan {

/// How sequences are spread over the groups of a micro-batch.
enum class Planner : std::uint8_t {
  kPerMicroBatch,  ///< all groups of a micro-batch are of one kind, the best for it
  kFlexible,       ///< each group is of the kind that suits its sequences (FlexSP)
};

struct PlannerOptions {
  Planner planner = Planner::kFlexible;
  int threads = 1;  ///< that plan at the same time; the plan does not depend on them
  /// Of the search within one micro-batch, which ends where it has visited so many nodes. A count
  /// and not a time, so that all ranks and all runs find the same plan.
  std::int64_t node_limit = 20'000;
  /// The search ends as well where no plan could be faster by more than this part.
  double enough_gap = 0.01;
};

/// Plans one step: which groups of ranks run which of the batch's sequences, in which
/// micro-batches. `lengths` are the sequences' tokens, each at least 1; the plan names them by
/// their place there. No sequences: no micro-batches. A function of its arguments, `threads` left
/// out. Throws InputError where a sequence fits into no kind of group, and where the costs make no
/// sense.
StepPlan plan_step(const std::vector<std::int64_t>& lengths, const CostModel& costs,
                   const PlannerOptions& options);

/// The same with all groups of all micro-batches of one kind, which is what frameworks without a
/// planner run. Throws InputError where a sequence does not fit into it.
StepPlan plan_of_one_kind(const std::vector<std::int64_t>& lengths, const CostModel& costs,
                          int kind);

/// Throws InternalError, saying what is wrong, unless the plan can be run and takes the time it
/// says: each sequence in one group, groups on ranks of their own and aligned, of a kind that there
/// is and with the tokens that it has memory for.
void check_plan(const StepPlan& plan, const std::vector<std::int64_t>& lengths,
                const CostModel& costs);

/// Throws InputError unless there are kinds, of degrees that are powers of two and no more than
/// the ranks, with room for tokens and times that are finite and not negative.
void check_costs(const CostModel& costs);

}  // namespace longspan::plan
