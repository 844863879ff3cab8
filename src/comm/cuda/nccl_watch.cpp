#include "comm/cuda/nccl_watch.h"

#include <fmt/format.h>

#include <chrono>
#include <exception>

#include "longspan/base/error.h"

namespace longspan::comm {
namespace {

constexpr double kSecondsBetweenLooks = 0.05;
// For the main thread to come to a wait for ranks, where it gives up.
constexpr double kGraceSeconds = 2.0;
// From there to the end of the process: the roll, aborts, and unwinding.
constexpr double kLastSeconds = 30.0;
constexpr double kAbortSeconds = 5.0;

}  // namespace

NcclWatch& NcclWatch::of_process() {
  // Never destroyed: the process may end while it watches.
  static NcclWatch& one = *new NcclWatch;
  return one;
}

std::shared_ptr<NcclGroup> NcclWatch::meet(Communicator& host, const std::string& description,
                                           int world_rank, int device) {
  auto group = std::make_shared<NcclGroup>(host, description, world_rank);
  const std::lock_guard<std::mutex> lock(mutex_);
  groups_.push_back(group);
  if (!thread_.joinable()) {
    device_ = device;
    over_ = false;
    set_release(abort_all);
    thread_ = std::thread([this] { watch(); });
  }
  return group;
}

void NcclWatch::retire() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (++retired_ < groups_.size()) return;
  }
  if (is_broken() || std::uncaught_exceptions() > 0) {
    leaving_ = true;  // the thread stays: what is still to come may wait for the device
    return;
  }
  const auto all = groups();
  for (auto group = all.rbegin(); group != all.rend(); ++group) (*group)->finish();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
  thread_ = {};
  set_release(nullptr);
  groups_.clear();
  works_.clear();
  watched_.reset();
  retired_ = 0;
}

std::shared_ptr<NcclWork> NcclWatch::begin(Subject subject) {
  auto work = std::make_shared<NcclWork>();
  work->subject = std::move(subject);
  const std::lock_guard<std::mutex> lock(mutex_);
  works_.push_back(work);
  return work;
}

void NcclWatch::abort_all() {
  struct Progress {
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t left = 0;
  };
  const auto progress = std::make_shared<Progress>();
  const auto all = of_process().groups();
  progress->left = all.size();
  for (const auto& group : all) {
    std::thread([group, progress] {
      group->abort();
      const std::lock_guard<std::mutex> lock(progress->mutex);
      --progress->left;
      progress->changed.notify_all();
    }).detach();
  }
  std::unique_lock<std::mutex> lock(progress->mutex);
  progress->changed.wait_for(lock, std::chrono::duration<double>(kAbortSeconds),
                             [&] { return progress->left == 0; });
}

std::vector<std::shared_ptr<NcclGroup>> NcclWatch::groups() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return groups_;
}

bool NcclWatch::pause(double seconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  return !changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return over_; });
}

void NcclWatch::watch() {
  cudaSetDevice(device_);  // events are asked of it
  while (pause(kSecondsBetweenLooks)) {
    if (is_giving_up() || leaving_) {
      // Nothing may hold up the main thread for good on its way out.
      if (pause(kLastSeconds + (is_giving_up() ? 0 : timeout()))) end();
      return;
    }
    const std::string failure = find_failure();
    if (failure.empty()) continue;
    tell_failure(failure);
    for (double waited = 0; waited < kGraceSeconds && !is_giving_up();
         waited += kSecondsBetweenLooks) {
      if (!pause(kSecondsBetweenLooks)) return;
    }
    if (!is_giving_up()) end();
  }
}

/// Works are done in the order in which they were begun.
std::shared_ptr<NcclWork> NcclWatch::first_under_way() {
  const std::lock_guard<std::mutex> lock(mutex_);
  while (!works_.empty() && works_.front()->issued && works_.front()->done.is_passed()) {
    works_.pop_front();
  }
  return works_.empty() ? nullptr : works_.front();
}

std::string NcclWatch::find_failure() {
  const auto first = first_under_way();
  for (const auto& group : groups()) {
    const std::string text = group->failure();
    if (text.empty()) continue;
    return failed(
        first ? first->subject
              : Subject{"the time between operations", group->description(), launched_rank()},
        text);
  }
  // Only the first can be late, and is not while the device still computes what it needs.
  const bool waits_for_peers = first && (!first->issued || first->ready.is_passed());
  if (first != watched_ || !waits_for_peers) {
    watched_ = first;
    patience_ = {};
    return "";
  }
  const double seconds = patience_.seconds();
  if (seconds <= timeout()) return "";
  return fmt::format("{}: a rank of it has stopped, died or cannot be reached; {}",
                     waited(first->subject, seconds), kAdvice);
}

void NcclWatch::end() {
  std::string message;
  if (may_report()) message = told_failure();
  leave_process(message);
}

}  // namespace longspan::comm
