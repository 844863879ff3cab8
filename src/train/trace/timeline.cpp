#include "train/trace/timeline.h"

namespace longspan::train {
namespace {

/// A device tells times between two marks in float32 milliseconds: after a second they are still
/// exact to 0.1 us, and the next ones are counted from there.
constexpr double kFarthest = 1.0;

}  // namespace

void Timeline::follow_host(Clock::time_point origin) {
  origin_ = origin;
  streams_ = nullptr;
}

void Timeline::follow_device(const backend::DeviceStreams& streams, backend::DeviceQueue queue,
                             Clock::time_point origin) {
  origin_ = origin;
  streams_ = &streams;
  queue_ = queue;
  start_ = host_seconds();
  mark();
}

void Timeline::align(const Timeline& first) {
  start_ = first.start_ + open_.front()->seconds_since(*first.open_.front());
}

std::size_t Timeline::mark() {
  if (streams_ == nullptr) {
    seconds_.push_back(host_seconds());
    return seconds_.size() - 1;
  }
  open_.push_back(streams_->mark(queue_));
  return seconds_.size() + open_.size() - 1;
}

void Timeline::resolve() {
  const backend::Mark* from = open_.empty() ? nullptr : open_.front().get();
  double start = start_;
  for (const auto& mark : open_) {
    const double seconds = start + mark->seconds_since(*from);
    seconds_.push_back(seconds);
    if (seconds - start < kFarthest) continue;
    start = seconds;
    from = mark.get();
  }
  open_.clear();
}

}  // namespace longspan::train
