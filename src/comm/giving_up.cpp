#include "comm/giving_up.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <mutex>

#include "comm/roll_call.h"
#include "longspan/base/error.h"
#include "longspan/comm/communicator.h"

namespace longspan::comm {
namespace {

std::atomic<double> timeout_seconds{600.0};
std::atomic<std::int64_t> step_number{-1};
std::atomic<bool> broken{false};
std::atomic<bool> giving_up{false};
std::atomic<void (*)()> release_function{nullptr};

std::mutex failure_mutex;
std::string failure;  // guarded by failure_mutex

// A pause between two looks at the clock that is longer than this is the process's own: a job that
// was suspended as a whole and goes on has not waited all that time for its peers.
constexpr double kLongestPause = 1.0;
constexpr double kSecondsBetweenRolls = 0.05;
constexpr unsigned kSecondsOfReport = 3;

std::string signs_of_life(const std::vector<int>& silent) {
  constexpr std::size_t kMost = 8;
  if (silent.empty()) return "all ranks give signs of life";
  const auto end = silent.begin() + static_cast<std::ptrdiff_t>(std::min(silent.size(), kMost));
  return fmt::format(
      "no sign of life from rank(s) {}{}{}", fmt::join(silent.begin(), end, ", "),
      silent.size() > kMost ? fmt::format(" and {} more", silent.size() - kMost) : "",
      release_function.load() != nullptr ? " (one that waits for its GPU gives none)" : "");
}

std::string in_step(const Subject& subject) {
  return subject.step < 0 ? "" : fmt::format(" in step {}", subject.step);
}

/// Whether a launcher has sent SIGTERM, which training blocks: a rank has reported, and all are
/// ended.
bool is_terminated() {
  sigset_t pending;
  sigemptyset(&pending);
  sigpending(&pending);
  return sigismember(&pending, SIGTERM) == 1;
}

}  // namespace

const char* const kAdvice = "if it was only slow, raise parallel.timeout_seconds";

void set_timeout(double seconds) { timeout_seconds = seconds; }
void set_step(std::int64_t step) { step_number = step; }
double timeout() { return timeout_seconds; }
std::int64_t current_step() { return step_number; }
bool is_broken() { return broken; }
void break_off() { broken = true; }
bool is_giving_up() { return giving_up; }
void set_release(void (*release)()) { release_function = release; }

double Patience::seconds() {
  const auto now = Clock::now();
  seconds_ += std::min(std::chrono::duration<double>(now - last_).count(), kLongestPause);
  last_ = now;
  return seconds_;
}

std::string waited(const Subject& subject, double seconds) {
  return fmt::format("rank {} waited {:.3g} seconds{} for {} of {}, and gives up",
                     subject.world_rank, seconds, in_step(subject), subject.operation,
                     subject.group);
}

std::string failed(const Subject& subject, const std::string& why) {
  return fmt::format("communication of rank {} failed{} in {} of {}: {}", subject.world_rank,
                     in_step(subject), subject.operation, subject.group, why);
}

void give_up(const std::string& what, const std::string& advice) {
  giving_up = true;
  const auto silent = call_the_roll();
  broken = true;
  const std::string text = advice.empty()
                               ? fmt::format("{}; {}", what, signs_of_life(silent))
                               : fmt::format("{}: {}; {}", what, signs_of_life(silent), advice);
  {
    const std::lock_guard<std::mutex> lock(failure_mutex);
    failure = text;
  }
  if (const auto release = release_function.load()) release();
  throw base::PeerError(text);
}

void tell_failure(const std::string& what) {
  const std::lock_guard<std::mutex> lock(failure_mutex);
  if (failure.empty()) failure = what;
}

std::string told_failure() {
  const std::lock_guard<std::mutex> lock(failure_mutex);
  return failure;
}

void check_for_failure() {
  const std::string what = told_failure();
  if (broken) throw base::PeerError(fmt::format("an earlier operation failed: {}", what));
  if (!what.empty()) give_up(what, "");
}

void Wait::look() {
  const double seconds = patience_.seconds();
  if (seconds > timeout()) give_up(waited(*subject_, seconds), kAdvice);
  if (seconds > last_roll_ + kSecondsBetweenRolls) {
    check_for_failure();
    if (roll_is_called()) give_up(waited(*subject_, seconds), kAdvice);
    last_roll_ = seconds;
  }
  ::sched_yield();  // ranks may share cores
}

void leave_process(const std::string& message) {
  if (!message.empty() && !is_terminated()) {
    std::fprintf(stderr, "longspan: error: %s\n", message.c_str());
    std::fflush(nullptr);
    // The other ranks of this machine come here within moments, and see as long as this process
    // lives that it has reported.
    ::sleep(kSecondsOfReport);
  }
  ::_exit(static_cast<int>(base::ExitCode::kPeerFailed));
}

}  // namespace longspan::comm
