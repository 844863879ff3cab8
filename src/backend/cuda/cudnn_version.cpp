#include <cudnn_version.h>

#include <string>

#include "backend/cuda_versions.h"

namespace longspan::backend {

Component cudnn_component() {
  return {"cuDNN",
          std::to_string(CUDNN_MAJOR) + "." + std::to_string(CUDNN_MINOR) + "." +
              std::to_string(CUDNN_PATCHLEVEL),
          ""};
}

}  // namespace longspan::backend
