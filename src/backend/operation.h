#pragma once

#include <exception>

#include "longspan/backend/backend.h"

namespace longspan::backend {

/// Told to who observes the backend, for as long as this lives: the first line of every operation
/// of a backend that computes. Operations that it is made of are not told.
class Operation {
 public:
  /// `name` is a literal; `shown` the tensor whose shape is told, usually the output, or undefined.
  Operation(Backend& backend, const char* name, const Tensor& shown)
      : Operation(backend, DeviceQueue::kCompute, name, shown, 0) {}
  /// Of one that moves `moved` bytes to or from the host, on this queue.
  Operation(Backend& backend, DeviceQueue queue, const char* name, const Tensor& shown,
            std::size_t moved)
      : backend_(&backend), observer_(backend.observer()) {
    if (observer_ == nullptr) return;
    span_ = observer_->begin(queue, name, shown, moved);
    backend.observe(nullptr);
  }
  /// While an exception goes by nobody will read what is told, and a device that failed cannot be
  /// asked for the time.
  ~Operation() {
    if (observer_ == nullptr) return;
    backend_->observe(observer_);
    if (std::uncaught_exceptions() == exceptions_) observer_->end(span_);
  }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

 private:
  Backend* backend_;
  Observer* observer_;
  std::size_t span_ = 0;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace longspan::backend
