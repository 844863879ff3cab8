#include "backend/cuda/error.h"

#include <fmt/format.h>

#include "longspan/base/error.h"

namespace longspan::backend::cuda {

void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  throw base::InternalError(
      fmt::format("CUDA: {} ({}) in {}", cudaGetErrorString(error), cudaGetErrorName(error), call));
}

void check_launch(const char* kernel) { check(cudaGetLastError(), kernel); }

}  // namespace longspan::backend::cuda
