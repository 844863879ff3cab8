#pragma once

#include "longspan/base/declarations.h"
#include "longspan/train/job.h"

namespace longspan::train {

/// The sections `velora` and `column_row_sampling`: how gradients of matrices are formed.
void declare_velora(model::VeloraConfig& velora, base::Declarations& keys);
void declare_sampling(model::RowSamplingConfig& sampling, base::Declarations& keys);

/// Throw InputError where the section does not fit itself, or the rest of the job.
void check_velora(const Job& job);
void check_sampling(const Job& job);
/// The same for a job that draws by its tokens, because of `key`: a step's must have numbers.
void check_token_numbers(const Job& job, const char* key);

}  // namespace longspan::train
