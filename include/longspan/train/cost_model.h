#pragma once

#include "longspan/plan/cost_model.h"
#include "longspan/train/job.h"
#include "longspan/train/plan.h"

namespace longspan::train {

plan::CostModel make_cost_model(const Job& job, const PlanSetting& setting);

}  // namespace longspan::train
