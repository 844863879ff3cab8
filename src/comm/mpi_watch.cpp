#include "comm/mpi_watch.h"

#include <fmt/format.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <chrono>

#include "longspan/base/error.h"
#include "longspan/comm/communicator.h"

namespace longspan::comm {
namespace {

std::atomic<double> timeout_seconds{600.0};
std::atomic<std::int64_t> current_step{-1};

using Clock = std::chrono::steady_clock;

}  // namespace

void set_timeout(double seconds) { timeout_seconds = seconds; }
void set_step(std::int64_t step) { current_step = step; }

void check(int code, const std::string& operation) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw base::PeerError(fmt::format("communication failed in {}: {}", operation, text.data()));
}

void Requests::wait() {
  const auto start = Clock::now();
  const double most = timeout_seconds;
  while (true) {
    int done = 0;
    check(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done,
                      MPI_STATUSES_IGNORE),
          operation_);
    if (done != 0) break;
    if (std::chrono::duration<double>(Clock::now() - start).count() > most) give_up(most);
    ::sched_yield();  // ranks may share cores
  }
  requests_.clear();
}

void Requests::give_up(double seconds) const {
  const std::int64_t step = current_step;
  const std::string when = step < 0 ? "" : fmt::format(" in step {}", step);
  throw base::PeerError(
      fmt::format("rank {} waited {:g} seconds{} for {} of {}, and gives up: a rank of it has "
                  "stopped, died or cannot be reached; if it was only slow, raise "
                  "parallel.timeout_seconds",
                  world_rank_, seconds, when, operation_, group_));
}

}  // namespace longspan::comm
