#include "comm/mpi_watch.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "comm/roll_call.h"
#include "longspan/base/error.h"
#include "longspan/comm/communicator.h"

namespace longspan::comm {
namespace {

std::atomic<double> timeout_seconds{600.0};
std::atomic<std::int64_t> current_step{-1};
std::atomic<bool> broken{false};

using Clock = std::chrono::steady_clock;

// A pause between two looks at the clock that is longer than this is the process's own: a job that
// was suspended as a whole and goes on has not waited all that time for its peers.
constexpr double kLongestPause = 1.0;
constexpr double kSecondsBetweenRolls = 0.05;
constexpr unsigned kSecondsOfReport = 3;

/// Seconds that this process has spent waiting.
class Patience {
 public:
  double seconds() {
    const auto now = Clock::now();
    seconds_ += std::min(std::chrono::duration<double>(now - last_).count(), kLongestPause);
    last_ = now;
    return seconds_;
  }

 private:
  Clock::time_point last_ = Clock::now();
  double seconds_ = 0;
};

std::string waited(int rank, double seconds, const std::string& operation,
                   const std::string& group) {
  const std::int64_t step = current_step;
  return fmt::format("rank {} waited {:.3g} seconds{} for {} of {}, and gives up", rank, seconds,
                     step < 0 ? "" : fmt::format(" in step {}", step), operation, group);
}

std::string signs_of_life(const std::vector<int>& silent) {
  constexpr std::size_t kMost = 8;
  if (silent.empty()) return "all ranks give signs of life";
  const auto end = silent.begin() + static_cast<std::ptrdiff_t>(std::min(silent.size(), kMost));
  return fmt::format(
      "no sign of life from rank(s) {}{}", fmt::join(silent.begin(), end, ", "),
      silent.size() > kMost ? fmt::format(" and {} more", silent.size() - kMost) : "");
}

/// Whether a launcher has sent SIGTERM, which training blocks: a rank has reported, and all are
/// ended.
bool is_terminated() {
  sigset_t pending;
  sigemptyset(&pending);
  sigpending(&pending);
  return sigismember(&pending, SIGTERM) == 1;
}

constexpr const char* kAdvice = "if it was only slow, raise parallel.timeout_seconds";

}  // namespace

void set_timeout(double seconds) { timeout_seconds = seconds; }
void set_step(std::int64_t step) { current_step = step; }
bool is_broken() { return broken; }

void check(int code, const std::string& operation) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  const auto silent = call_the_roll();
  broken = true;
  throw base::PeerError(fmt::format("communication failed in {}: {}; {}", operation, text.data(),
                                    signs_of_life(silent)));
}

void Requests::wait() {
  if (broken) {
    throw base::PeerError(fmt::format("{} cannot be: an earlier operation failed", operation_));
  }
  const double most = timeout_seconds;
  Patience patience;
  double next_roll = kSecondsBetweenRolls;
  while (true) {
    int done = 0;
    check(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done,
                      MPI_STATUSES_IGNORE),
          operation_);
    if (done != 0) break;
    const double seconds = patience.seconds();
    if (seconds > most) give_up(seconds);
    if (seconds > next_roll) {
      if (roll_is_called()) give_up(seconds);
      next_roll = seconds + kSecondsBetweenRolls;
    }
    ::sched_yield();  // ranks may share cores
  }
  requests_.clear();
}

Requests::~Requests() {
  if (requests_.empty() || broken) return;
  // An exception goes by; its cause is told later. The peers have begun this operation, too.
  try {
    wait();
  } catch (const std::exception&) {
    broken = true;
  }
}

void Requests::give_up(double seconds) const {
  const auto silent = call_the_roll();
  broken = true;
  throw base::PeerError(fmt::format("{}: {}; {}", waited(world_rank_, seconds, operation_, group_),
                                    signs_of_life(silent), kAdvice));
}

Deadline::Deadline(std::string operation, std::string group)
    : operation_(std::move(operation)), group_(std::move(group)), thread_([this] { watch(); }) {}

Deadline::~Deadline() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

bool Deadline::is_over_within(double seconds) {
  Patience patience;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!over_ && patience.seconds() < seconds) {
    changed_.wait_for(lock, std::chrono::duration<double>(std::min(kLongestPause / 2, seconds)));
  }
  return over_;
}

void Deadline::watch() {
  const double seconds = timeout_seconds;
  if (is_over_within(seconds)) return;
  const bool reports = may_report();
  if (is_over_within(0)) return;  // meanwhile it came back
  if (reports && !is_terminated()) {
    std::fprintf(stderr,
                 "longspan: error: %s: a rank of it has stopped, died or cannot be reached; %s\n",
                 waited(launched_rank(), seconds, operation_, group_).c_str(), kAdvice);
    std::fflush(nullptr);
    // The other ranks of this machine come here within moments, and see as long as this process
    // lives that it has reported.
    ::sleep(kSecondsOfReport);
  }
  // This is not the thread that may call MPI. A launcher ends the job when one rank leaves so.
  ::_exit(static_cast<int>(base::ExitCode::kPeerFailed));
}

}  // namespace longspan::comm
