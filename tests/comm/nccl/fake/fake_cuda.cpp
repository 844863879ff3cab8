#include "tests/comm/nccl/fake/fake_cuda.h"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <string>

#include "backend/cuda/error.h"
#include "longspan/base/error.h"
#include "tests/comm/fake_streams.h"

namespace {

using longspan::testing::FakeEvent;
using longspan::testing::FakeStream;

int bus_number = 0;

FakeEvent& fake(cudaEvent_t event) { return *reinterpret_cast<FakeEvent*>(event); }
FakeStream& fake(cudaStream_t stream) { return *reinterpret_cast<FakeStream*>(stream); }

}  // namespace

void longspan::testing::set_bus_number(int number) { bus_number = number; }

void longspan::backend::cuda::check(cudaError_t error, const char* call) {
  if (error != cudaSuccess) throw base::InternalError(std::string("CUDA: an error in ") + call);
}

extern "C" {

cudaError_t cudaSetDevice(int /*device*/) { return cudaSuccess; }
cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int /*device*/) {
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02x:00.0", bus_number);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned /*flags*/) {
  *event = reinterpret_cast<cudaEvent_t>(new FakeEvent);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete &fake(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  fake(stream).record(fake(event));
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return fake(event).is_done() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned /*flags*/) {
  fake(stream).wait_for(fake(event));
  return cudaSuccess;
}
}
