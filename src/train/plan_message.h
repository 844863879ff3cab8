#pragma once

#include <string>

#include "longspan/base/error.h"
#include "longspan/plan/step_plan.h"

namespace longspan::train {

/// What rank 0 tells the others of a step: its plan, or why there is none.
std::string message_of(const plan::StepPlan& plan);
std::string message_of(base::ExitCode code, const std::string& what);

/// The plan, to the last bit. Throws the error that the message has, as one that all ranks have.
plan::StepPlan plan_in(const std::string& message);

}  // namespace longspan::train
