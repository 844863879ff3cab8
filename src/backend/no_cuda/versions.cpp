#include "backend/cuda_versions.h"

namespace longspan::backend {

std::vector<Component> cuda_components() {
  return {{"CUDA", "", ""}, {"cuBLAS", "", ""}, {"cuDNN", "", ""}, {"NCCL", "", ""}};
}

}  // namespace longspan::backend
