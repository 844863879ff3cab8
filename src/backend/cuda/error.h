#pragma once

#include <cuda_runtime_api.h>

namespace longspan::backend::cuda {

/// Throws InternalError that quotes the call, when CUDA's runtime reports an error.
void check(cudaError_t error, const char* call);
/// The same for the launch of a kernel, just tried.
void check_launch(const char* kernel);

}  // namespace longspan::backend::cuda
