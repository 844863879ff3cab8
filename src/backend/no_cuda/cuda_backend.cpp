#include "longspan/backend/cuda.h"
#include "longspan/base/error.h"

namespace longspan::backend {
namespace {

[[noreturn]] void refuse() {
  throw base::InputError(
      "run.device is \"cuda\", but this longspan was built without CUDA; build the preset cuda, or "
      "set run.device to \"cpu\"");
}

}  // namespace

int gpu_count() { return 0; }
GpuInfo gpu_info(int /*number*/) { refuse(); }
std::size_t free_gpu_memory(int /*number*/) { refuse(); }
std::unique_ptr<Backend> make_cuda_backend(int /*number*/, std::size_t /*memory_limit*/,
                                           bool /*deterministic*/) {
  refuse();
}
std::unique_ptr<Backend> make_pinned_backend(std::size_t /*memory_limit*/) { refuse(); }

}  // namespace longspan::backend
