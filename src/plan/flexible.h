#pragma once

#include <cstdint>
#include <vector>

#include "longspan/plan/planner.h"

namespace longspan::plan {

/// Groups of several kinds in each micro-batch (Wang et al. 2025, FlexSP, with searches of our own
/// in place of a mixed integer program). Sequences have been checked: each fits into some kind.
StepPlan plan_flexibly(const std::vector<std::int64_t>& lengths, const CostModel& costs,
                       const PlannerOptions& options);

/// No plan takes less: all ranks are busy with what suits each sequence best, in as few
/// micro-batches as memory allows.
double bound_of_any_plan(const std::vector<std::int64_t>& lengths, const CostModel& costs);

}  // namespace longspan::plan
