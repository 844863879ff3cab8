#include "comm/deadline.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "longspan/comm/communicator.h"

namespace longspan::comm {
namespace {

constexpr double kSecondsBetweenLooks = 0.5;

}  // namespace

Deadline::Deadline(std::string operation, std::string group)
    : subject_{std::move(operation), std::move(group), launched_rank()},
      thread_([this] { watch(); }) {}

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
    changed_.wait_for(lock, std::chrono::duration<double>(std::min(kSecondsBetweenLooks, seconds)));
  }
  return over_;
}

void Deadline::watch() {
  const double seconds = timeout();
  if (is_over_within(seconds)) return;
  const bool reports = may_report();
  if (is_over_within(0)) return;  // meanwhile it came back
  leave_process(reports ? fmt::format("{}: a rank of it has stopped, died or cannot be reached; {}",
                                      waited(subject_, seconds), kAdvice)
                        : "");
}

}  // namespace longspan::comm
