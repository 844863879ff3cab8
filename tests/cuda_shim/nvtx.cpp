#include "tests/cuda_shim/nvtx3/nvToolsExt.h"

namespace {

int depth = 0;

}  // namespace

int nvtxRangePushA(const char* message) { return message == nullptr ? -1 : depth++; }
int nvtxRangePop() { return --depth; }

namespace longspan::backend::cuda::shim {

int open_ranges() { return depth; }

}  // namespace longspan::backend::cuda::shim
