#pragma once

#include "longspan/base/declarations.h"
#include "longspan/train/job.h"

namespace longspan::train {

/// The section `adapter` of the job file.
void declare_adapter(Job::Adapter& adapter, base::Declarations& keys);

/// Throws InputError where the section does not fit itself, or the rest of the job.
void check_adapter(const Job& job);

/// Of a job with adapter.from: `files` is what its adapter_config.json says. Throws InputError
/// where the job gives a key another value, but dropout.
void refuse_another_adapter(const Job& job, const model::LoraConfig& files);

}  // namespace longspan::train
