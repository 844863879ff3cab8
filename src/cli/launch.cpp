#include "cli/launch.h"

#include <exception>
#include <variant>

#include "longspan/base/error.h"

namespace longspan::cli {
namespace {

const train::CommonJob& common_of(const train::Job& job) { return job; }
const train::CommonJob& common_of(const train::AnyJob& job) {
  return std::visit([](const auto& one) -> const train::CommonJob& { return one; }, job);
}

template <typename Job>
LaunchOf<Job> launch_with(Job (*read)(const std::string&, const std::vector<std::string>&),
                          const std::string& job, const std::vector<std::string>& overrides) {
  LaunchOf<Job> launch;
  std::exception_ptr refusal;
  try {
    launch.job = read(job, overrides);
    // Starting MPI is waiting, too.
    comm::set_timeout(common_of(launch.job).parallel.timeout_seconds);
  } catch (const base::Error&) {
    refusal = std::current_exception();
  }
  launch.world = comm::make_world_communicator();
  comm::run_agreed(*launch.world, [&] {
    if (refusal) std::rethrow_exception(refusal);
  });
  return launch;
}

}  // namespace

Launch launch(const std::string& job, const std::vector<std::string>& overrides) {
  return launch_with(&train::read_job, job, overrides);
}

LaunchOf<train::AnyJob> launch_any(const std::string& job,
                                   const std::vector<std::string>& overrides) {
  return launch_with(&train::read_any_job, job, overrides);
}

}  // namespace longspan::cli
