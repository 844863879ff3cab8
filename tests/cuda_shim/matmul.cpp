#include "backend/cuda/matmul.h"

#include "backend/arena.h"
#include "backend/cpu/matmul.h"

// Stands in for src/backend/cuda/matmul.cpp where there is no GPU: the processor's products, with
// the workspace that cuBLASLt is given.
namespace longspan::backend::cuda {

class Matmul::Impl {
 public:
  explicit Impl(const Queue& queue)
      : workspace(queue.backend->allocate({kMatmulWorkspace}, base::DType::kUInt8,
                                          MemoryTag::kWorkspace)) {}

  static constexpr std::size_t kScratch = std::size_t{1} << 32U;  // of addresses
  Tensor workspace;
  Arena scratch{map_host_memory(kScratch), kScratch, Arena::kCpuAlignment};
  cpu::Matmul products{scratch};
};

Matmul::Matmul(const Queue& queue) : impl_(std::make_unique<Impl>(queue)) {}
Matmul::~Matmul() = default;

void Matmul::run(const Tensor& out, const Tensor& a, const Tensor& b,
                 const MatmulOptions& options) {
  impl_->products.run(out, a, b, options);
}

}  // namespace longspan::backend::cuda
