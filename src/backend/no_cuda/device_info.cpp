#include "backend/cuda_versions.h"

namespace longspan::backend {

std::vector<Component> cuda_components() {
  return {{"CUDA", "", kNotBuiltIn}, {"cuBLAS", "", kNotBuiltIn}};
}

}  // namespace longspan::backend
