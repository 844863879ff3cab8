#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::train {

/// When one queue passes its marks, in the order in which they were set: seconds since `origin`.
/// The host's are known at once, those of a device that works on its own once it has done its work.
class Timeline {
 public:
  using Clock = std::chrono::steady_clock;

  /// Marks are the host's from now on.
  void follow_host(Clock::time_point origin);
  /// Marks are this queue's from now on, and it is idle: its clock is set by the host's here, again
  /// and again, since the two drift apart.
  void follow_device(const backend::DeviceStreams& streams, backend::DeviceQueue queue,
                     Clock::time_point origin);

  /// Both follow queues of one device now, this one since `first` has passed its mark there; both
  /// have passed theirs. What the device's clock tells between the two replaces what the host's
  /// did.
  void align(const Timeline& first);

  /// The mark's number.
  std::size_t mark();
  /// The queue has passed all marks.
  void resolve();
  /// Of a mark that is resolved.
  double seconds(std::size_t mark) const { return seconds_[mark]; }

 private:
  double host_seconds() const {
    return std::chrono::duration<double>(Clock::now() - origin_).count();
  }

  Clock::time_point origin_;
  const backend::DeviceStreams* streams_ = nullptr;  // null: of the host
  backend::DeviceQueue queue_ = backend::DeviceQueue::kCompute;
  double start_ = 0;                                  // of the first open mark
  std::vector<double> seconds_;                       // of resolved marks
  std::vector<std::unique_ptr<backend::Mark>> open_;  // behind them
};

}  // namespace longspan::train
