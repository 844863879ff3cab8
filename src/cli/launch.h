#pragma once

#include <memory>
#include <string>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/train/clip_job.h"

namespace longspan::cli {

/// The ranks of this launch, and the job that all of them have read.
template <typename Job>
struct LaunchOf {
  Job job;
  std::unique_ptr<comm::Communicator> world;
};
using Launch = LaunchOf<train::Job>;

/// Reads the job, with its timeout starts MPI, and agrees on what was read. Throws InputError as
/// train::read_job does, on all ranks.
Launch launch(const std::string& job, const std::vector<std::string>& overrides);
/// The same of a job of either kind, as train::read_any_job.
LaunchOf<train::AnyJob> launch_any(const std::string& job,
                                   const std::vector<std::string>& overrides);

}  // namespace longspan::cli
