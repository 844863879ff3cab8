#include "train/trace/backend_observer.h"

#include <limits>
#include <utility>

namespace longspan::train {
namespace {

/// Of what began while nothing was recorded.
constexpr std::size_t kNoSpan = std::numeric_limits<std::size_t>::max();

}  // namespace

std::size_t BackendObserver::begin(backend::DeviceQueue queue, const char* name,
                                   const backend::Tensor& shown, std::size_t moved) {
  if (!recorder_->is_recording()) return kNoSpan;
  Details details = Details::of(name, shown);
  details.bytes = moved;
  return recorder_->begin(queue == backend::DeviceQueue::kCopies ? copies_ : work_,
                          std::move(details));
}

void BackendObserver::end(std::size_t operation) {
  if (operation != kNoSpan) recorder_->end(operation);
}

void BackendObserver::enter(const char* name, backend::Index number) {
  if (has_places_ && recorder_->is_recording()) recorder_->enter(name, number);
}

void BackendObserver::leave() {
  if (has_places_ && recorder_->is_recording()) recorder_->leave();
}

}  // namespace longspan::train
