#pragma once

#include "longspan/plan/cost_model.h"
#include "longspan/train/job.h"
#include "longspan/train/plan.h"

namespace longspan::train {

/// What groups of ranks cost, for the planner of a job's steps: as parallel.costs says. Throws
/// InputError when its file is none for these ranks, or the job cannot be trained by them.
plan::CostModel group_costs(const Job& job, const PlanSetting& setting);

}  // namespace longspan::train
