#pragma once

#include <cuda_runtime_api.h>

#include "longspan/backend/backend.h"

namespace longspan::backend::cuda {

/// Where kernels are launched: work of one queue runs in the order in which it was given.
struct Queue {
  cudaStream_t stream = nullptr;
  Backend* backend = nullptr;  ///< gives scratch memory (tag kWorkspace); it may be released as
                               ///< soon as the kernel that uses it has been launched
};

}  // namespace longspan::backend::cuda
