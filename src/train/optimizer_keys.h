#pragma once

#include <cstdint>

#include "longspan/base/declarations.h"
#include "longspan/train/common_job.h"

namespace longspan::train {

/// The section `optimizer` of the job file.
void declare_optimizer(CommonJob::Optimizer& optimizer, base::Declarations& keys);

/// What the optimizer's own ranks may be at most, and the key that says so.
struct MostRank {
  std::int64_t value = 0;
  const char* key = "";
};

/// Throws InputError where the section does not fit itself, or the rest of the job: `projection`
/// is for GaLore's projections, `direction` for LOZO's directions.
void check_optimizer(const CommonJob& job, const MostRank& projection, const MostRank& direction);

}  // namespace longspan::train
