#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>

#include "backend/arena.h"
#include "longspan/backend/backend.h"

namespace longspan::backend::cuda {

/// Memory of the host that the GPU reads and writes at full speed. Throws OutOfMemoryError.
std::unique_ptr<AddressRange> pin_host_memory(std::size_t bytes);

/// One GPU: its properties and the streams of this process on it. Current for the thread that made
/// it, which issues all work.
class Device : public DeviceStreams {
 public:
  /// Throws InputError when this machine has no such GPU, or none that this program can use.
  explicit Device(int number);
  ~Device() override;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int device() const override { return number_; }
  void* compute() const override { return compute_; }
  void* communication() const override { return communication_; }
  std::unique_ptr<Mark> mark(DeviceQueue queue) const override;

  cudaStream_t compute_stream() const { return compute_; }
  cudaStream_t communication_stream() const { return communication_; }
  cudaStream_t copies_stream() const { return copies_; }
  /// "NVIDIA H200, sm_90, 139.8 GiB, CUDA 13.0".
  std::string description() const;

  /// One piece of the GPU's memory. Throws OutOfMemoryError when it has not so much left.
  std::unique_ptr<AddressRange> reserve(std::size_t bytes) const;

 private:
  int number_;
  cudaDeviceProp properties_{};
  cudaStream_t compute_ = nullptr;
  cudaStream_t communication_ = nullptr;
  cudaStream_t copies_ = nullptr;
};

}  // namespace longspan::backend::cuda
