#include "backend/cuda_versions.h"

namespace longspan::backend {

Component cudnn_component() { return {"cuDNN", "", ""}; }

}  // namespace longspan::backend
