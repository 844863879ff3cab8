#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "tests/cuda_shim/shim.h"

// CUDA's runtime on the processor: see cuda_runtime_api.h.

struct CUstream_st {};
struct CUevent_st {
  bool is_timed = true;
  bool is_recorded = false;
  std::chrono::steady_clock::time_point recorded;
};

namespace {

namespace shim = longspan::backend::cuda::shim;

constexpr std::size_t kDefaultShared = std::size_t{48} << 10U;
constexpr std::size_t kMostShared = std::size_t{227} << 10U;
constexpr std::size_t kAlignment = 256;  // what cudaMalloc promises

struct Device {
  std::size_t memory = std::size_t{1} << 30U;
  std::size_t taken = 0;
  std::map<void*, std::size_t> blocks;
  std::map<void*, std::size_t> pinned;
  std::map<const void*, std::size_t> shared_bytes;
  cudaError_t last_error = cudaSuccess;
};

Device& device() {
  static Device one;
  return one;
}

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) device().last_error = error;
  return error;
}

cudaError_t allocate(void** address, std::size_t bytes, std::map<void*, std::size_t>& list) {
  *address = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (posix_memalign(address, kAlignment, bytes) != 0) return result(cudaErrorMemoryAllocation);
  std::memset(*address, 0xFF, bytes);
  list.emplace(*address, bytes);
  return cudaSuccess;
}

/// The bytes released; 0 and an error where nothing lies at the address.
cudaError_t release(void* address, std::map<void*, std::size_t>& list, std::size_t* bytes) {
  if (address == nullptr) return cudaSuccess;
  const auto found = list.find(address);
  if (found == list.end()) return result(cudaErrorInvalidValue);
  *bytes = found->second;
  list.erase(found);
  std::free(address);
  return cudaSuccess;
}

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
};

}  // namespace

namespace longspan::backend::cuda::shim {

void set_last_error(cudaError_t error) { device().last_error = error; }
void set_device_memory(std::size_t bytes) { device().memory = bytes; }

std::size_t allowed_shared_bytes(const void* kernel) {
  const auto found = device().shared_bytes.find(kernel);
  return found == device().shared_bytes.end() ? kDefaultShared
                                              : std::max(kDefaultShared, found->second);
}

}  // namespace longspan::backend::cuda::shim

const char* cudaGetErrorString(cudaError_t error) {
  for (const ErrorText& one : kErrors) {
    if (one.error == error) return one.text;
  }
  return "unrecognized error code";
}
const char* cudaGetErrorName(cudaError_t error) {
  for (const ErrorText& one : kErrors) {
    if (one.error == error) return one.name;
  }
  return "unrecognized error code";
}
cudaError_t cudaGetLastError() { return std::exchange(device().last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return device().last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* number) {
  *number = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int number) {
  return number == 0 ? cudaSuccess : result(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int number) {
  if (number != 0) return result(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "shim of CUDA on the processor");
  properties->totalGlobalMem = device().memory;
  properties->sharedMemPerBlock = kDefaultShared;
  properties->sharedMemPerBlockOptin = kMostShared;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** address, std::size_t bytes) {
  *address = nullptr;
  if (bytes > device().memory - std::min(device().memory, device().taken)) {
    return result(cudaErrorMemoryAllocation);
  }
  const cudaError_t error = allocate(address, bytes, device().blocks);
  if (error == cudaSuccess) device().taken += bytes;
  return error;
}
cudaError_t cudaFree(void* address) {
  std::size_t bytes = 0;
  const cudaError_t error = release(address, device().blocks, &bytes);
  device().taken -= bytes;
  return error;
}
cudaError_t cudaMallocHost(void** address, std::size_t bytes) {
  return allocate(address, bytes, device().pinned);
}
cudaError_t cudaFreeHost(void* address) {
  std::size_t bytes = 0;
  return release(address, device().pinned, &bytes);
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = device().memory;
  *free = device().memory - std::min(device().memory, device().taken);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind /*kind*/) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t /*stream*/) {
  return cudaMemcpy(to, from, bytes, kind);
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind kind, cudaStream_t /*stream*/) {
  if (width > to_pitch || width > from_pitch) return result(cudaErrorInvalidValue);
  for (std::size_t row = 0; row < height; ++row) {
    cudaMemcpy(static_cast<char*>(to) + row * to_pitch,
               static_cast<const char*>(from) + row * from_pitch, width, kind);
  }
  return cudaSuccess;
}
cudaError_t cudaMemset(void* address, int value, std::size_t bytes) {
  if (bytes > 0) std::memset(address, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* address, int value, std::size_t bytes, cudaStream_t /*stream*/) {
  return cudaMemset(address, value, bytes);
}
cudaError_t cudaMemset2DAsync(void* address, std::size_t pitch, int value, std::size_t width,
                              std::size_t height, cudaStream_t /*stream*/) {
  if (width > pitch) return result(cudaErrorInvalidValue);
  for (std::size_t row = 0; row < height; ++row) {
    cudaMemset(static_cast<char*>(address) + row * pitch, value, width);
  }
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned /*flags*/) {
  return cudaStreamCreate(stream);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned /*flags*/,
                                         int /*priority*/) {
  return cudaStreamCreate(stream);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t /*stream*/) { return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t /*stream*/) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t /*stream*/, cudaEvent_t event, unsigned /*flags*/) {
  return event == nullptr ? result(cudaErrorInvalidResourceHandle) : cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st{(flags & cudaEventDisableTiming) == 0, false, {}};
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t /*stream*/) {
  if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
  event->is_recorded = true;
  event->recorded = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return event == nullptr ? result(cudaErrorInvalidResourceHandle) : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  for (const cudaEvent_t event : {start, end}) {
    if (event == nullptr || !event->is_timed || !event->is_recorded) {
      return result(cudaErrorInvalidResourceHandle);
    }
  }
  const std::chrono::duration<float, std::milli> passed = end->recorded - start->recorded;
  *milliseconds = passed.count();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<std::size_t>(value) > kMostShared) {
    return result(cudaErrorInvalidValue);
  }
  device().shared_bytes[kernel] = static_cast<std::size_t>(value);
  return cudaSuccess;
}
