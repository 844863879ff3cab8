#pragma once

#include <cstdint>
#include <string>

#include "cli/command.h"

namespace longspan::cli {

/// Options of `longspan plan --lengths`, which plans steps rather than a job.
struct PlanBatchesArguments {
  std::string lengths;
  std::string costs;
  std::int64_t batch_sequences = 0;
  std::int64_t batch_tokens = 0;
  std::int64_t batches = 10;
  std::uint64_t seed = 0;
};

/// `job` is the positional argument that cannot be given together with these.
void add_plan_batches_options(const Command& command, PlanBatchesArguments& arguments,
                              const Option& job);

/// Plans batches for `world_size` ranks, 0 being those of the cost file, prints what comes of it,
/// and writes a picture of the first one's step, if `picture` names a file.
void plan_batches(const PlanBatchesArguments& arguments, int world_size, bool json,
                  const std::string& picture);

}  // namespace longspan::cli
