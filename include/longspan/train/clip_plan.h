#pragma once

#include <cstdint>
#include <string>

#include "longspan/train/clip_job.h"
#include "longspan/train/plan.h"

// What is said of plans of texts (train/plan.h), of jobs of clips: their own step is run, every
// micro-batch full of clips of one extent, that of the job's which needs most.
namespace longspan::train {

Fit check_clip_fit(const ClipJob& job, const PlanSetting& setting);
Plan make_clip_plan(const ClipJob& job, const PlanSetting& setting);
std::string clip_remedies_text(const ClipJob& job, const PlanSetting& setting);

}  // namespace longspan::train
