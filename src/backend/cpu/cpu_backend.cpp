#include <fmt/format.h>
#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>

#include "backend/arena.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/matmul.h"
#include "longspan/backend/backend.h"

namespace longspan::backend {
namespace {

using base::DType;

class CpuBackend : public Backend {
 public:
  CpuBackend(std::unique_ptr<AddressRange> memory, std::size_t memory_limit)
      : arena_(std::make_shared<Arena>(std::move(memory), memory_limit, Arena::kCpuAlignment)),
        matmul_(*arena_) {}

  std::string name() const override { return "cpu"; }

  std::string description() const override {
    const dnnl_version_t* version = dnnl_version();
    return fmt::format("{} threads, oneDNN {}.{}.{}", omp_get_max_threads(), version->major,
                       version->minor, version->patch);
  }

  bool supports(DType dtype, std::string* why_not) const override {
    return cpu::supports(dtype, why_not);
  }

  Tensor allocate(const Shape& shape, DType dtype, MemoryTag tag) override {
    return allocate_tensor(arena_, shape, dtype, tag);
  }
  const Ledger& ledger() const override { return arena_->ledger(); }
  void reset_peaks() override { arena_->ledger().reset_peaks(); }
  void enter(const char* name, Index number) override { arena_->ledger().enter(name, number); }
  void leave() override { arena_->ledger().leave(); }
  std::size_t memory_limit() const override { return arena_->limit(); }

  void zero(const Tensor& out) override { cpu::zero(out); }
  void copy(const Tensor& out, const Tensor& in) override { cpu::copy(out, in); }
  void copy_from_host(const Tensor& out, const void* host, std::size_t bytes) override {
    cpu::copy_from_host(out, host, bytes);
  }
  void copy_to_host(void* host, const Tensor& in, std::size_t bytes) override {
    cpu::copy_to_host(host, in, bytes);
  }

  void matmul(const Tensor& out, const Tensor& a, const Tensor& b,
              const MatmulOptions& options) override {
    matmul_.run(out, a, b, options);
  }
  void add(const Tensor& out, const Tensor& a, const Tensor& b) override { cpu::add(out, a, b); }
  void accumulate(const Tensor& out, const Tensor& in) override { cpu::accumulate(out, in); }

  void rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& x,
                        const Tensor& weight, float epsilon) override {
    cpu::rms_norm_forward(out, rstd, x, weight, epsilon);
  }
  void add_rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& sum,
                            const Tensor& a, const Tensor& b, const Tensor& weight,
                            float epsilon) override {
    cpu::add_rms_norm_forward(out, rstd, sum, a, b, weight, epsilon);
  }
  void rms_norm_again(const Tensor& out, const Tensor& rstd, const Tensor& x,
                      const Tensor& weight) override {
    cpu::rms_norm_again(out, rstd, x, weight);
  }
  void rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                         const Tensor& residual, const Tensor& rstd, const Tensor& x,
                         const Tensor& weight) override {
    cpu::rms_norm_backward(dx, dweight, dy, residual, rstd, x, weight);
  }

  void layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                          const Tensor& x, const Tensor& weight, const Tensor& bias,
                          float epsilon) override {
    cpu::layer_norm_forward(out, mean, rstd, x, weight, bias, epsilon);
  }
  void add_layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                              const Tensor& sum, const Tensor& a, const Tensor& b,
                              const Tensor& weight, const Tensor& bias, float epsilon) override {
    cpu::add_layer_norm_forward(out, mean, rstd, sum, a, b, weight, bias, epsilon);
  }
  void layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                           const Tensor& dy, const Tensor& residual, const Tensor& mean,
                           const Tensor& rstd, const Tensor& x, const Tensor& weight) override {
    cpu::layer_norm_backward(dx, dweight, dbias, dy, residual, mean, rstd, x, weight);
  }

  void rope_table(const Tensor& table, const Tensor& positions,
                  const std::vector<double>& inverse_frequencies) override {
    cpu::rope_table(table, positions, inverse_frequencies);
  }
  void rope(const Tensor& out, const Tensor& x, const Tensor& table, bool inverse) override {
    cpu::rope(out, x, table, inverse);
  }

  void swiglu_forward(const Tensor& out, const Tensor& gate_up) override {
    cpu::swiglu_forward(out, gate_up);
  }
  void swiglu_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                       const Tensor& gate_up) override {
    cpu::swiglu_backward(dgate_up, out, dout, gate_up);
  }

  void add_bias(const Tensor& out, const Tensor& bias) override { cpu::add_bias(out, bias); }
  void bias_backward(const Tensor& dbias, const Tensor& dy) override {
    cpu::bias_backward(dbias, dy);
  }
  void gelu_forward(const Tensor& out, const Tensor& x) override { cpu::gelu_forward(out, x); }
  void gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout,
                     const Tensor& x) override {
    cpu::gelu_backward(dx, out, dout, x);
  }

  void attention_forward(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                         const Tensor& v, const CuSeqlens& cu_seqlens_q,
                         const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) override {
    attention_.forward(*this, out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, options);
  }
  void attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dout,
                          const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                          const Tensor& v, const CuSeqlens& cu_seqlens_q,
                          const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) override {
    attention_.backward(*this, dq, dk, dv, dout, out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k,
                        options);
  }

  void attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                       const Tensor& block_lse) override {
    cpu::attention_merge(out, lse, block_out, block_lse);
  }

  void gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table) override {
    cpu::gather_rows(out, ids, table);
  }
  void embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids) override {
    cpu::embedding_backward(dtable, dy, ids);
  }
  void cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                     const Tensor& labels, double scale) override {
    cpu::cross_entropy(nll, dlogits, logits, labels, scale);
  }

  double sum(const Tensor& in) override { return cpu::sum(in); }
  double sum_of_squares(const Tensor& in) override { return cpu::sum_of_squares(in); }
  void random_normal(const Tensor& out, const base::RandomStream& stream, double deviation,
                     std::uint64_t first_element) override {
    cpu::random_normal(out, stream, deviation, first_element);
  }
  void fill(const Tensor& out, double value) override { cpu::fill(out, value); }
  void adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
             const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options) override {
    cpu::adamw(weight, master, moment1, moment2, gradient, options);
  }

 private:
  std::shared_ptr<Arena> arena_;
  cpu::Matmul matmul_;
  cpu::Attention attention_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(std::size_t memory_limit) {
  return make_cpu_backend(map_host_memory(memory_limit), memory_limit);
}

std::unique_ptr<Backend> make_cpu_backend(std::unique_ptr<AddressRange> memory,
                                          std::size_t memory_limit) {
  return std::make_unique<CpuBackend>(std::move(memory), memory_limit);
}

}  // namespace longspan::backend
