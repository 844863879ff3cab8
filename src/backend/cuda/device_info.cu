#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <string>

#include "backend/cuda_versions.h"

namespace longspan::backend {
namespace {

std::string describe(int device) {
  cudaDeviceProp properties{};
  const cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) {
    return std::to_string(device) + ": " + cudaGetErrorString(error);
  }
  return std::to_string(device) + ": " + properties.name + ", sm_" +
         std::to_string(properties.major) + std::to_string(properties.minor) + ", " +
         std::to_string(properties.totalGlobalMem >> 30) + " GiB";
}

std::string devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    return std::string("no GPU: ") + cudaGetErrorString(error);
  }
  std::string text;
  for (int device = 0; device < count; ++device) {
    text += (device == 0 ? "GPU " : "; GPU ") + describe(device);
  }
  return text;
}

}  // namespace

std::vector<Component> cuda_components() {
  return {{"CUDA",
           std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10),
           devices()},
          {"cuBLAS",
           std::to_string(CUBLAS_VER_MAJOR) + "." + std::to_string(CUBLAS_VER_MINOR) + "." +
               std::to_string(CUBLAS_VER_PATCH),
           ""}};
}

}  // namespace longspan::backend
