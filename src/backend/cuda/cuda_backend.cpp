#include <fmt/format.h>
#include <nvtx3/nvToolsExt.h>

#include "backend/arena.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/attention.h"
#include "backend/cuda/cudnn_attention.h"
#include "backend/cuda/device.h"
#include "backend/cuda/error.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/matmul.h"
#include "backend/cuda/transfer.h"
#include "backend/operation.h"
#include "longspan/backend/cuda.h"

namespace longspan::backend {
namespace cuda {
namespace {

using base::DType;

/// What a GPU does by libraries, its memory and its queues; the rest is CudaKernels.
class CudaBackend : public CudaKernels {
 public:
  CudaBackend(std::unique_ptr<Device> device, std::size_t memory_limit, bool deterministic)
      : CudaKernels(device->compute_stream()),
        device_(std::move(device)),
        arena_(std::make_shared<Arena>(device_->reserve(memory_limit), memory_limit,
                                       Arena::kCudaAlignment)),
        matmul_(queue()),
        deterministic_(deterministic),
        attention_(std::make_unique<CudnnAttention>(Architecture::of_device(device_->device())),
                   deterministic) {}

  std::string name() const override { return "cuda"; }
  std::string description() const override { return device_->description(); }
  bool supports(DType /*dtype*/, std::string* /*why_not*/) const override { return true; }
  std::string slow_path() const override {
    const std::string& why = attention_.declined();
    if (why.empty()) return {};
    return fmt::format("plain attention for {}{}", why,
                       deterministic_ ? " (run.deterministic = false may do it faster)" : "");
  }
  const DeviceStreams* streams() const override { return device_.get(); }
  void synchronize() override {
    for (const cudaStream_t stream :
         {device_->compute_stream(), device_->communication_stream(), device_->copies_stream()}) {
      check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    }
  }

  Tensor allocate(const Shape& shape, DType dtype, MemoryTag tag) override {
    return allocate_tensor(arena_, shape, dtype, tag);
  }
  const Ledger& ledger() const override { return arena_->ledger(); }
  void reset_peaks() override { arena_->ledger().reset_peaks(); }
  /// Profilers show the places of a step as ranges (NVTX); without one a range costs nothing.
  void enter(const char* name, Index number) override {
    arena_->ledger().enter(name, number);
    nvtxRangePushA(number < 0 ? name : fmt::format("{} {}", name, number).c_str());
  }
  void leave() override {
    arena_->ledger().leave();
    nvtxRangePop();
  }
  std::size_t memory_limit() const override { return arena_->limit(); }

  void copy_from_host(const Tensor& out, const void* host, std::size_t bytes) override {
    const Operation operation(*this, DeviceQueue::kCompute, "copy_from_host", out, bytes);
    cuda::copy_from_host(queue(), out, host, bytes);
  }
  void copy_to_host(void* host, const Tensor& in, std::size_t bytes) override {
    const Operation operation(*this, DeviceQueue::kCompute, "copy_to_host", in, bytes);
    cuda::copy_to_host(queue(), host, in, bytes);
  }
  void download(const Tensor& host, const Tensor& in) override {
    start_download(host, in);
    check(cudaStreamSynchronize(device_->copies_stream()), "cudaStreamSynchronize");
  }
  void upload(const Tensor& out, const Tensor& host) override {
    start_upload(out, host)->wait();
    check(cudaStreamSynchronize(device_->copies_stream()), "cudaStreamSynchronize");
  }
  std::unique_ptr<Transfer> start_download(const Tensor& host, const Tensor& in) override {
    const Operation operation(*this, DeviceQueue::kCopies, "download", in, in.bytes());
    return start_transfer(*device_, host, in, cudaMemcpyDeviceToHost);
  }
  std::unique_ptr<Transfer> start_upload(const Tensor& out, const Tensor& host) override {
    const Operation operation(*this, DeviceQueue::kCopies, "upload", out, out.bytes());
    return start_transfer(*device_, out, host, cudaMemcpyHostToDevice);
  }

  void matmul(const Tensor& out, const Tensor& a, const Tensor& b,
              const MatmulOptions& options) override {
    const Operation operation(*this, "matmul", out);
    matmul_.run(out, a, b, options);
  }
  void attention_forward(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                         const Tensor& v, const CuSeqlens& cu_seqlens_q,
                         const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) override {
    const Operation operation(*this, "attention_forward", out);
    attention_.forward(queue(), out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, options);
  }
  void attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dout,
                          const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                          const Tensor& v, const CuSeqlens& cu_seqlens_q,
                          const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) override {
    const Operation operation(*this, "attention_backward", dq);
    attention_.backward(queue(), dq, dk, dv, dout, out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k,
                        options);
  }

 private:
  std::unique_ptr<Device> device_;
  std::shared_ptr<Arena> arena_;
  Matmul matmul_;
  bool deterministic_;
  Attention attention_;
};

}  // namespace
}  // namespace cuda

std::unique_ptr<Backend> make_cuda_backend(int number, std::size_t memory_limit,
                                           bool deterministic) {
  return std::make_unique<cuda::CudaBackend>(std::make_unique<cuda::Device>(number), memory_limit,
                                             deterministic);
}

std::unique_ptr<Backend> make_pinned_backend(std::size_t memory_limit) {
  return std::make_unique<cpu::CpuBackend>(cuda::pin_host_memory(memory_limit), memory_limit);
}

}  // namespace longspan::backend
