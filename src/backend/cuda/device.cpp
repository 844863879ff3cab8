#include "backend/cuda/device.h"

#include <fmt/format.h>

#include "backend/cuda/error.h"
#include "longspan/backend/cuda.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::backend::cuda {
namespace {

/// What the kernels of this program are made for.
constexpr int kLeastMajor = 8;

class DeviceMemory : public AddressRange {
 public:
  using AddressRange::AddressRange;
  ~DeviceMemory() override { cudaFree(begin()); }
};

class PinnedMemory : public AddressRange {
 public:
  using AddressRange::AddressRange;
  ~PinnedMemory() override { cudaFreeHost(begin()); }
};

/// An event that keeps the time, unlike those that streams wait for.
class TimedEvent : public Mark {
 public:
  explicit TimedEvent(cudaStream_t stream) {
    check(cudaEventCreateWithFlags(&event_, cudaEventDefault), "cudaEventCreateWithFlags");
    check(cudaEventRecord(event_, stream), "cudaEventRecord");
  }
  ~TimedEvent() override { cudaEventDestroy(event_); }

  double seconds_since(const Mark& earlier) const override {
    float milliseconds = 0;
    check(
        cudaEventElapsedTime(&milliseconds, static_cast<const TimedEvent&>(earlier).event_, event_),
        "cudaEventElapsedTime");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

cudaDeviceProp properties_of(int number) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || number >= count) {
    throw base::InputError(fmt::format(
        "run.device is \"cuda\", but this process sees {} ({}); check nvidia-smi and "
        "CUDA_VISIBLE_DEVICES, or set run.device to \"cpu\"",
        count == 0 ? "no GPU" : fmt::format("no GPU number {}", number),
        error == cudaSuccess ? fmt::format("there are {}", count) : cudaGetErrorString(error)));
  }
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, number), "cudaGetDeviceProperties");
  if (properties.major < kLeastMajor) {
    throw base::InputError(
        fmt::format("GPU {} is a {} (sm_{}{}); this program needs sm_{}0 or later", number,
                    properties.name, properties.major, properties.minor, kLeastMajor));
  }
  return properties;
}

}  // namespace

std::unique_ptr<AddressRange> pin_host_memory(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMallocHost(&memory, bytes);
  if (error != cudaSuccess) {
    cudaGetLastError();  // it is told here
    throw base::OutOfMemoryError(fmt::format("the host cannot pin {} for the GPU: {}",
                                             base::format_bytes(bytes), cudaGetErrorString(error)));
  }
  return std::make_unique<PinnedMemory>(static_cast<std::byte*>(memory), bytes);
}

Device::Device(int number) : number_(number), properties_(properties_of(number)) {
  check(cudaSetDevice(number), "cudaSetDevice");
  int lowest = 0;
  int highest = 0;
  check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cudaDeviceGetStreamPriorityRange");
  const auto make = [](cudaStream_t& stream, int priority) {
    check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority),
          "cudaStreamCreateWithPriority");
  };
  make(compute_, lowest);
  // What others wait for goes first.
  make(communication_, highest);
  make(copies_, highest);
}

Device::~Device() {
  for (const cudaStream_t stream : {compute_, communication_, copies_}) {
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
  }
}

std::unique_ptr<Mark> Device::mark(DeviceQueue queue) const {
  return std::make_unique<TimedEvent>(queue == DeviceQueue::kCompute         ? compute_
                                      : queue == DeviceQueue::kCommunication ? communication_
                                                                             : copies_);
}

std::string Device::description() const {
  return fmt::format("{}, sm_{}{}, {}, CUDA {}.{}", properties_.name, properties_.major,
                     properties_.minor, base::format_bytes(properties_.totalGlobalMem),
                     CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
}

std::unique_ptr<AddressRange> Device::reserve(std::size_t bytes) const {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is told here
    std::size_t free = 0;
    std::size_t total = 0;
    cudaMemGetInfo(&free, &total);
    throw base::OutOfMemoryError(fmt::format(
        "GPU {} cannot reserve {}: {} of its {} are free; lower memory.limit, or see with "
        "nvidia-smi what else runs there",
        number_, base::format_bytes(bytes), base::format_bytes(free), base::format_bytes(total)));
  }
  check(error, "cudaMalloc");
  return std::make_unique<DeviceMemory>(static_cast<std::byte*>(memory), bytes);
}

}  // namespace longspan::backend::cuda

namespace longspan::backend {

int gpu_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // no driver, no GPU: neither is a failure
  return 0;
}

GpuInfo gpu_info(int number) {
  const cudaDeviceProp properties = cuda::properties_of(number);
  return {properties.name, properties.totalGlobalMem};
}

std::size_t free_gpu_memory(int number) {
  cuda::properties_of(number);
  std::size_t free = 0;
  std::size_t total = 0;
  cuda::check(cudaSetDevice(number), "cudaSetDevice");
  cuda::check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

}  // namespace longspan::backend
