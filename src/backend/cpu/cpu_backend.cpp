#include "backend/cpu/cpu_backend.h"

#include <fmt/format.h>
#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>

#include "backend/operation.h"

namespace longspan::backend {
namespace cpu {

using base::DType;

CpuBackend::CpuBackend(std::unique_ptr<AddressRange> memory, std::size_t memory_limit)
    : arena_(std::make_shared<Arena>(std::move(memory), memory_limit, Arena::kCpuAlignment)),
      matmul_(*arena_) {}

std::string CpuBackend::description() const {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("{} threads, oneDNN {}.{}.{}", omp_get_max_threads(), version->major,
                     version->minor, version->patch);
}

bool CpuBackend::supports(DType dtype, std::string* why_not) const {
  return cpu::supports(dtype, why_not);
}

Tensor CpuBackend::allocate(const Shape& shape, DType dtype, MemoryTag tag) {
  return allocate_tensor(arena_, shape, dtype, tag);
}

void CpuBackend::matmul(const Tensor& out, const Tensor& a, const Tensor& b,
                        const MatmulOptions& options) {
  const Operation operation(*this, "matmul", out);
  matmul_.run(out, a, b, options);
}

void CpuBackend::attention_forward(const Tensor& out, const Tensor& lse, const Tensor& q,
                                   const Tensor& k, const Tensor& v, const CuSeqlens& cu_seqlens_q,
                                   const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) {
  const Operation operation(*this, "attention_forward", out);
  attention_.forward(out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, options);
}

void CpuBackend::attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv,
                                    const Tensor& dout, const Tensor& out, const Tensor& lse,
                                    const Tensor& q, const Tensor& k, const Tensor& v,
                                    const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                                    const AttentionOptions& options) {
  const Operation operation(*this, "attention_backward", dq);
  attention_.backward(*this, dq, dk, dv, dout, out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k,
                      options);
}

}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(std::size_t memory_limit) {
  return std::make_unique<cpu::CpuBackend>(map_host_memory(memory_limit), memory_limit);
}

}  // namespace longspan::backend
