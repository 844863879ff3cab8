#pragma once

#include <memory>
#include <string>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/train/job.h"

namespace longspan::cli {

/// The ranks of this launch, and the job that all of them have read.
struct Launch {
  train::Job job;
  std::unique_ptr<comm::Communicator> world;
};

/// Reads the job, with its timeout starts MPI, and agrees on what was read. Throws InputError as
/// train::read_job does, on all ranks.
Launch launch(const std::string& job, const std::vector<std::string>& overrides);

}  // namespace longspan::cli
