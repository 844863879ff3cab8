#include <nccl.h>

#include <string>

#include "backend/cuda_versions.h"

namespace longspan::backend {

Component nccl_component() {
  return {"NCCL",
          std::to_string(NCCL_MAJOR) + "." + std::to_string(NCCL_MINOR) + "." +
              std::to_string(NCCL_PATCH),
          ""};
}

}  // namespace longspan::backend
