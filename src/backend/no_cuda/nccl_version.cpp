#include "backend/cuda_versions.h"

namespace longspan::backend {

Component nccl_component() { return {"NCCL", "", ""}; }

}  // namespace longspan::backend
