#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "longspan/comm/communicator.h"

namespace longspan::comm {

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

void wait_to_report() noexcept {
  constexpr int kTurnMilliseconds = 500;
  constexpr int kMostTurns = 20;
  ::usleep(static_cast<useconds_t>(std::min(launched_rank(), kMostTurns) * kTurnMilliseconds) *
           1000);
}

}  // namespace longspan::comm
