#include "cli/launch.h"

#include <exception>

#include "longspan/base/error.h"

namespace longspan::cli {

Launch launch(const std::string& job, const std::vector<std::string>& overrides) {
  Launch launch;
  std::exception_ptr refusal;
  try {
    launch.job = train::read_job(job, overrides);
    comm::set_timeout(launch.job.parallel.timeout_seconds);  // starting MPI is waiting, too
  } catch (const base::Error&) {
    refusal = std::current_exception();
  }
  launch.world = comm::make_world_communicator();
  comm::run_agreed(*launch.world, [&] {
    if (refusal) std::rethrow_exception(refusal);
  });
  return launch;
}

}  // namespace longspan::cli
