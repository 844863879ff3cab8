#include "train/trace/recorder.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace longspan::train {

Details Details::of(const char* name, const backend::Tensor& out) {
  Details details;
  details.name = name;
  details.has_tensor = out.defined();
  if (details.has_tensor) {
    details.dtype = out.dtype();
    details.shape = out.shape();
  }
  return details;
}

void Recorder::begin_step(std::int64_t step) {
  synchronize();
  if (!origin_) origin_ = Timeline::Clock::now();
  for (Timeline& one : timelines_) one.follow_host(*origin_);
  if (streams_ != nullptr) follow_queues();
  is_recording_ = true;
  enter("step", step);
}

void Recorder::follow_queues() {
  using backend::DeviceQueue;
  Timeline& compute = timeline(Row::kCompute);
  Timeline& communication = timeline(Row::kCommunication);
  Timeline& copies = timeline(Row::kCopies);
  compute.follow_device(*streams_, DeviceQueue::kCompute, *origin_);
  synchronize();
  communication.follow_device(*streams_, DeviceQueue::kCommunication, *origin_);
  copies.follow_device(*streams_, DeviceQueue::kCopies, *origin_);
  synchronize();
  communication.align(compute);
  copies.align(compute);
}

void Recorder::end_step() {
  leave();
  is_recording_ = false;
  synchronize();  // behind the last mark
  for (Timeline& one : timelines_) one.resolve();
  for (OpenSpan& span : spans_) keep(span);
  first_ += spans_.size();
  spans_.clear();
}

/// A queue may have done it before the compute queue came to where it was given: when there was
/// nothing to do.
void Recorder::keep(OpenSpan& span) {
  if (!span.end) return;
  const Timeline& own = timeline(span.event.row);
  span.event.end = own.seconds(*span.end);
  span.event.begin = own.seconds(span.begin);
  if (span.given) {
    const double given = timeline(Row::kCompute).seconds(*span.given);
    span.event.begin = std::min(span.event.end, std::max(span.event.begin, given));
  }
  events_.push_back(std::move(span.event));
}

Recorder::Span Recorder::begin(Row row, Details details) {
  OpenSpan span;
  span.event.row = row;
  span.event.details = std::move(details);
  span.begin = timeline(row).mark();
  if (row == Row::kCommunication || row == Row::kCopies) {
    span.given = timeline(Row::kCompute).mark();
  }
  spans_.push_back(std::move(span));
  return first_ + spans_.size() - 1;
}

void Recorder::end(Span span) {
  if (!is_recording_ || span < first_) return;
  OpenSpan& open = spans_[span - first_];
  open.end = timeline(open.event.row).mark();
}

void Recorder::enter(const char* name, backend::Index number) {
  Details details;
  details.name = name;
  details.number = number;
  places_.push_back(begin(Row::kPlaces, std::move(details)));
}

void Recorder::leave() {
  const Span place = places_.back();
  places_.pop_back();
  // While an exception goes by nobody will read this, and a device that failed cannot be asked.
  if (std::uncaught_exceptions() == 0) end(place);
}

}  // namespace longspan::train
