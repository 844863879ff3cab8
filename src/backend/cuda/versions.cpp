#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn_version.h>
#include <fmt/format.h>
#include <nccl.h>

#include <string>

#include "backend/cuda_versions.h"

namespace longspan::backend {
namespace {

std::string describe(int device) {
  cudaDeviceProp properties{};
  const cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) {
    return fmt::format("{}: {}", device, cudaGetErrorString(error));
  }
  return fmt::format("{}: {}, sm_{}{}, {} GiB", device, properties.name, properties.major,
                     properties.minor, properties.totalGlobalMem >> 30U);
}

std::string devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    return fmt::format("no GPU: {}", cudaGetErrorString(error));
  }
  std::string text;
  for (int device = 0; device < count; ++device) {
    text += (device == 0 ? "GPU " : "; GPU ") + describe(device);
  }
  return text;
}

}  // namespace

std::vector<Component> cuda_components() {
  return {
      {"CUDA", fmt::format("{}.{}", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10), devices()},
      {"cuBLAS", fmt::format("{}.{}.{}", CUBLAS_VER_MAJOR, CUBLAS_VER_MINOR, CUBLAS_VER_PATCH), ""},
      {"cuDNN", fmt::format("{}.{}.{}", CUDNN_MAJOR, CUDNN_MINOR, CUDNN_PATCHLEVEL), ""},
      {"NCCL", fmt::format("{}.{}.{}", NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH), ""}};
}

}  // namespace longspan::backend
