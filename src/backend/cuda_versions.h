#pragma once

#include <vector>

#include "longspan/backend/versions.h"

// Each is defined twice, in cuda/ and in no_cuda/; CMake takes one of the two files.
namespace longspan::backend {

/// CUDA's runtime with the devices found, and cuBLAS.
std::vector<Component> cuda_components();
Component cudnn_component();
Component nccl_component();

}  // namespace longspan::backend
