#include <mpi.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "longspan/comm/communicator.h"

namespace longspan::comm {
namespace {

constexpr int kMostTurns = 20;
constexpr useconds_t kTurnMicroseconds = 100'000;
// Longer than a launcher takes to end a job.
constexpr unsigned kPatienceSeconds = 10;

/// Whether no other rank of this job on this machine has asked before. A socket's abstract name
/// belongs to one process, and goes with it.
bool is_first_on_machine() noexcept {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const auto text_of = [](const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
  };
  // Of the launchers' names for a job; the first byte stays 0.
  const int length =
      std::snprintf(&address.sun_path[1], sizeof(address.sun_path) - 1,
                    "longspan %d %.40s %.15s %.15s", static_cast<int>(::getuid()),
                    text_of("PMIX_NAMESPACE"), text_of("SLURM_JOB_ID"), text_of("SLURM_STEP_ID"));
  const int ticket = ::socket(AF_UNIX, SOCK_DGRAM, 0);  // kept until the process ends
  const auto size = offsetof(sockaddr_un, sun_path) + 1 + static_cast<std::size_t>(length);
  return ::bind(ticket, reinterpret_cast<const sockaddr*>(&address),
                static_cast<socklen_t>(size)) == 0 ||
         errno != EADDRINUSE;
}

}  // namespace

bool is_launched() noexcept {
  // What OpenMPI's mpirun, PMIx and PMI-2 launchers (srun) set for every rank.
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr ||
         std::getenv("PMI_RANK") != nullptr;
}

std::string library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  const std::string whole(text.data(), static_cast<std::size_t>(length));
  return whole.substr(0, whole.find(','));  // the build's host and date follow
}

int launched_rank() noexcept {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  return 0;
}

void abort_world(int exit_code) noexcept {
  int initialised = 0;
  MPI_Initialized(&initialised);
  if (initialised == 0) return;
  int finalized = 0;
  MPI_Finalized(&finalized);
  int size = 1;
  if (finalized == 0) MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size > 1) MPI_Abort(MPI_COMM_WORLD, exit_code);
}

bool may_report() noexcept {
  if (!is_launched()) return true;
  ::usleep(static_cast<useconds_t>(std::min(launched_rank(), kMostTurns)) * kTurnMicroseconds);
  if (is_first_on_machine()) return true;
  ::sleep(kPatienceSeconds);
  return false;
}

}  // namespace longspan::comm
