#pragma once

#include "longspan/base/declarations.h"
#include "longspan/train/job.h"

namespace longspan::train {

/// The section `adapter` of the job file.
void declare_adapter(Job::Adapter& adapter, base::Declarations& keys);

/// The section `velora`.
void declare_velora(model::VeloraConfig& velora, base::Declarations& keys);
/// The section `column_row_sampling`.
void declare_sampling(model::RowSamplingConfig& sampling, base::Declarations& keys);

/// Throw InputError where the section does not fit itself, or the rest of the job.
void check_adapter(const Job& job);
void check_velora(const Job& job);
void check_sampling(const Job& job);

/// Of a job with adapter.from: `files` is what its adapter_config.json says. Throws InputError
/// where the job gives a key another value, but dropout.
void refuse_another_adapter(const Job& job, const model::LoraConfig& files);

}  // namespace longspan::train
