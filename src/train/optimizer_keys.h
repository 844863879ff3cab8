#pragma once

#include "longspan/base/declarations.h"
#include "longspan/train/job.h"

namespace longspan::train {

/// The section `optimizer` of the job file.
void declare_optimizer(Job::Optimizer& optimizer, base::Declarations& keys);

/// Throws InputError where the section does not fit itself, or the rest of the job.
void check_optimizer(const Job& job);

}  // namespace longspan::train
