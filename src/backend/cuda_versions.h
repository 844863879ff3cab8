#pragma once

#include <vector>

#include "longspan/backend/versions.h"

namespace longspan::backend {

/// CUDA's runtime with the devices found, cuBLAS, cuDNN and NCCL. Defined twice, in cuda/ and in
/// no_cuda/; CMake takes one of the two files.
std::vector<Component> cuda_components();

}  // namespace longspan::backend
