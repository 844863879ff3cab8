#pragma once

#include <cuda_runtime_api.h>

#include "backend/cuda/error.h"

namespace longspan::backend::cuda {

/// A mark in a stream. CUDA keeps it until all streams that wait for it have passed it.
class Event {
 public:
  Event() {
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  /// What is given to the stream from now on waits for the mark; the host does not.
  cudaError_t hold(cudaStream_t stream) const { return cudaStreamWaitEvent(stream, event_, 0); }
  /// Recorded, and passed. Also when the device has failed: then nothing is to be waited for, and
  /// whoever uses it next learns why.
  bool is_passed() const { return cudaEventQuery(event_) != cudaErrorNotReady; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace longspan::backend::cuda
