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
#include "longspan/backend/cuda.h"

namespace longspan::backend {
namespace {

using base::DType;

class CudaBackend : public Backend {
 public:
  CudaBackend(int number, std::size_t memory_limit, bool deterministic)
      : device_(number),
        arena_(std::make_shared<Arena>(device_.reserve(memory_limit), memory_limit,
                                       Arena::kCudaAlignment)),
        queue_{device_.compute_stream(), this},
        matmul_(queue_),
        deterministic_(deterministic),
        attention_(std::make_unique<cuda::CudnnAttention>(cuda::Architecture::of_device(number)),
                   deterministic) {}

  std::string name() const override { return "cuda"; }
  std::string description() const override { return device_.description(); }
  bool supports(DType /*dtype*/, std::string* /*why_not*/) const override { return true; }
  std::string slow_path() const override {
    const std::string& why = attention_.declined();
    if (why.empty()) return {};
    return fmt::format("plain attention for {}{}", why,
                       deterministic_ ? " (run.deterministic = false may do it faster)" : "");
  }
  const DeviceStreams* streams() const override { return &device_; }
  void synchronize() override {
    for (const cudaStream_t stream :
         {device_.compute_stream(), device_.communication_stream(), device_.copies_stream()}) {
      cuda::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
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

  void zero(const Tensor& out) override { cuda::zero(queue_, out); }
  void copy(const Tensor& out, const Tensor& in) override { cuda::copy(queue_, out, in); }
  void copy_all(const std::vector<Tensor>& outs, const std::vector<Tensor>& ins) override {
    cuda::copy_all(queue_, outs, ins);
  }
  void copy_from_host(const Tensor& out, const void* host, std::size_t bytes) override {
    cuda::copy_from_host(queue_, out, host, bytes);
  }
  void copy_to_host(void* host, const Tensor& in, std::size_t bytes) override {
    cuda::copy_to_host(queue_, host, in, bytes);
  }
  void download(const Tensor& host, const Tensor& in) override {
    start_download(host, in);
    cuda::check(cudaStreamSynchronize(device_.copies_stream()), "cudaStreamSynchronize");
  }
  void upload(const Tensor& out, const Tensor& host) override {
    start_upload(out, host)->wait();
    cuda::check(cudaStreamSynchronize(device_.copies_stream()), "cudaStreamSynchronize");
  }
  std::unique_ptr<Transfer> start_download(const Tensor& host, const Tensor& in) override {
    return cuda::start_transfer(device_, host, in, cudaMemcpyDeviceToHost);
  }
  std::unique_ptr<Transfer> start_upload(const Tensor& out, const Tensor& host) override {
    return cuda::start_transfer(device_, out, host, cudaMemcpyHostToDevice);
  }

  void matmul(const Tensor& out, const Tensor& a, const Tensor& b,
              const MatmulOptions& options) override {
    matmul_.run(out, a, b, options);
  }
  void add(const Tensor& out, const Tensor& a, const Tensor& b) override {
    cuda::add(queue_, out, a, b);
  }
  void accumulate(const Tensor& out, const Tensor& in) override {
    cuda::accumulate(queue_, out, in);
  }

  void rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& x,
                        const Tensor& weight, float epsilon) override {
    cuda::rms_norm_forward(queue_, out, rstd, x, weight, epsilon);
  }
  void add_rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& sum,
                            const Tensor& a, const Tensor& b, const Tensor& weight,
                            float epsilon) override {
    cuda::add_rms_norm_forward(queue_, out, rstd, sum, a, b, weight, epsilon);
  }
  void rms_norm_again(const Tensor& out, const Tensor& rstd, const Tensor& x,
                      const Tensor& weight) override {
    cuda::rms_norm_again(queue_, out, rstd, x, weight);
  }
  void rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                         const Tensor& residual, const Tensor& rstd, const Tensor& x,
                         const Tensor& weight) override {
    cuda::rms_norm_backward(queue_, dx, dweight, dy, residual, rstd, x, weight);
  }

  void layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                          const Tensor& x, const Tensor& weight, const Tensor& bias,
                          float epsilon) override {
    cuda::layer_norm_forward(queue_, out, mean, rstd, x, weight, bias, epsilon);
  }
  void add_layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                              const Tensor& sum, const Tensor& a, const Tensor& b,
                              const Tensor& weight, const Tensor& bias, float epsilon) override {
    cuda::add_layer_norm_forward(queue_, out, mean, rstd, sum, a, b, weight, bias, epsilon);
  }
  void layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                           const Tensor& dy, const Tensor& residual, const Tensor& mean,
                           const Tensor& rstd, const Tensor& x, const Tensor& weight) override {
    cuda::layer_norm_backward(queue_, dx, dweight, dbias, dy, residual, mean, rstd, x, weight);
  }

  void rope_table(const Tensor& table, const Tensor& positions,
                  const std::vector<double>& inverse_frequencies) override {
    cuda::rope_table(queue_, table, positions, inverse_frequencies);
  }
  void rope(const Tensor& out, const Tensor& x, const Tensor& table, bool inverse) override {
    cuda::rope(queue_, out, x, table, inverse);
  }

  void swiglu_forward(const Tensor& out, const Tensor& gate_up) override {
    cuda::swiglu_forward(queue_, out, gate_up);
  }
  void swiglu_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                       const Tensor& gate_up) override {
    cuda::swiglu_backward(queue_, dgate_up, out, dout, gate_up);
  }

  void add_bias(const Tensor& out, const Tensor& bias) override {
    cuda::add_bias(queue_, out, bias);
  }
  void bias_backward(const Tensor& dbias, const Tensor& dy) override {
    cuda::bias_backward(queue_, dbias, dy);
  }
  void gelu_forward(const Tensor& out, const Tensor& x) override {
    cuda::gelu_forward(queue_, out, x);
  }
  void gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout,
                     const Tensor& x) override {
    cuda::gelu_backward(queue_, dx, out, dout, x);
  }

  void attention_forward(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                         const Tensor& v, const CuSeqlens& cu_seqlens_q,
                         const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) override {
    attention_.forward(queue_, out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, options);
  }
  void attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dout,
                          const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                          const Tensor& v, const CuSeqlens& cu_seqlens_q,
                          const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) override {
    attention_.backward(queue_, dq, dk, dv, dout, out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k,
                        options);
  }
  void attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                       const Tensor& block_lse) override {
    cuda::attention_merge(queue_, out, lse, block_out, block_lse);
  }

  void gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table) override {
    cuda::gather_rows(queue_, out, ids, table);
  }
  void embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids) override {
    cuda::embedding_backward(queue_, dtable, dy, ids);
  }
  void cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                     const Tensor& labels, double scale) override {
    cuda::cross_entropy(queue_, nll, dlogits, logits, labels, scale);
  }

  double sum(const Tensor& in) override { return cuda::sum(queue_, in); }
  double sum_of_squares(const Tensor& in) override { return cuda::sum_of_squares(queue_, in); }
  void random_normal(const Tensor& out, const base::RandomStream& stream, double deviation,
                     std::uint64_t first_element) override {
    cuda::random_normal(queue_, out, stream, deviation, first_element);
  }
  void fill(const Tensor& out, double value) override { cuda::fill(queue_, out, value); }
  void adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
             const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options) override {
    cuda::adamw(queue_, weight, master, moment1, moment2, gradient, options);
  }

 private:
  cuda::Device device_;
  std::shared_ptr<Arena> arena_;
  cuda::Queue queue_;
  cuda::Matmul matmul_;
  bool deterministic_;
  cuda::Attention attention_;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int number, std::size_t memory_limit,
                                           bool deterministic) {
  return std::make_unique<CudaBackend>(number, memory_limit, deterministic);
}

std::unique_ptr<Backend> make_pinned_backend(std::size_t memory_limit) {
  return make_cpu_backend(cuda::pin_host_memory(memory_limit), memory_limit);
}

}  // namespace longspan::backend
