#pragma once

#include <cuda_runtime_api.h>

#include <utility>

#include "backend/cuda/error.h"

namespace longspan::comm {

/// A mark in a stream.
class Event {
 public:
  Event() {
    backend::cuda::check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming),
                         "cudaEventCreateWithFlags");
  }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) {
    backend::cuda::check(cudaEventRecord(event_, stream), "cudaEventRecord");
  }
  /// What is given to the stream from now on waits for the mark; the host does not.
  cudaError_t hold(cudaStream_t stream) const { return cudaStreamWaitEvent(stream, event_, 0); }
  /// Recorded, and passed. Also when the device has failed: then nothing is to be waited for, and
  /// whoever uses it next learns why.
  bool is_passed() const { return cudaEventQuery(event_) != cudaErrorNotReady; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace longspan::comm
