#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/arena.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/matmul.h"
#include "longspan/backend/backend.h"

namespace longspan::backend::cpu {

/// The processor: products and attention's tiles by oneDNN, the rest with OpenMP. Each family of
/// operations is a file of this folder.
class CpuBackend : public Backend {
 public:
  /// With its tensors in `memory`, of which `memory_limit` bytes may be handed out.
  CpuBackend(std::unique_ptr<AddressRange> memory, std::size_t memory_limit);

  std::string name() const override { return "cpu"; }
  std::string description() const override;
  bool supports(base::DType dtype, std::string* why_not) const override;

  Tensor allocate(const Shape& shape, base::DType dtype, MemoryTag tag) override;
  const Ledger& ledger() const override { return arena_->ledger(); }
  void reset_peaks() override { arena_->ledger().reset_peaks(); }
  void enter(const char* name, Index number) override { arena_->ledger().enter(name, number); }
  void leave() override { arena_->ledger().leave(); }
  std::size_t memory_limit() const override { return arena_->limit(); }

  void zero(const Tensor& out) override;
  void copy(const Tensor& out, const Tensor& in) override;
  void copy_from_host(const Tensor& out, const void* host, std::size_t bytes) override;
  void copy_to_host(void* host, const Tensor& in, std::size_t bytes) override;
  void matmul(const Tensor& out, const Tensor& a, const Tensor& b,
              const MatmulOptions& options) override;
  void add(const Tensor& out, const Tensor& a, const Tensor& b) override;
  void accumulate(const Tensor& out, const Tensor& in) override;
  void scale(const Tensor& out, double factor) override;

  void rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& x,
                        const Tensor& weight, const RmsNormOptions& options) override;
  void add_rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& sum,
                            const Tensor& a, const Tensor& b, const Tensor& weight,
                            const RmsNormOptions& options) override;
  void rms_norm_again(const Tensor& out, const Tensor& rstd, const Tensor& x, const Tensor& weight,
                      const RmsNormOptions& options) override;
  void rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                         const Tensor& residual, const Tensor& rstd, const Tensor& x,
                         const Tensor& weight, const RmsNormOptions& options) override;

  void layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                          const Tensor& x, const Tensor& weight, const Tensor& bias,
                          float epsilon) override;
  void add_layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                              const Tensor& sum, const Tensor& a, const Tensor& b,
                              const Tensor& weight, const Tensor& bias, float epsilon) override;
  void layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                           const Tensor& dy, const Tensor& residual, const Tensor& mean,
                           const Tensor& rstd, const Tensor& x, const Tensor& weight) override;

  void rope_table(const Tensor& table, const Tensor& positions,
                  const std::vector<double>& inverse_frequencies, double scale) override;
  void rope(const Tensor& out, const Tensor& x, const Tensor& table, bool inverse) override;
  void quantize(const Tensor& codes, const Tensor& ranges, const Tensor& x) override;
  void quantize_at_random(const Tensor& codes, const Tensor& ranges, const Tensor& x,
                          const CodeRounding& rounding) override;
  void dequantize(const Tensor& out, const Tensor& codes, const Tensor& ranges) override;
  void nf4_quantize(const Tensor& codes, const Tensor& sizes, const Tensor& x) override;
  void nf4_quantize_sizes(const Tensor& codes, const Tensor& scales, const Tensor& sizes,
                          float mean) override;
  void nf4_dequantize(const Tensor& out, const Tensor& codes, const Tensor& size_codes,
                      const Tensor& scales, float mean) override;
  void project(const Tensor& out, const Tensor& x, const Tensor& direction, double scale) override;
  void row_norms(const Tensor& norms, const Tensor& x) override;
  void scale_rows(const Tensor& out, const Tensor& factors) override;
  void gated_forward(const Tensor& out, const Tensor& gate_up, GateActivation activation) override;
  void gated_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                      const Tensor& gate_up, GateActivation activation) override;
  void add_bias(const Tensor& out, const Tensor& bias) override;
  void bias_backward(const Tensor& dbias, const Tensor& dy) override;
  void add_product(const Tensor& out, const Tensor& x, const Tensor& y,
                   const Tensor& gate) override;
  void multiply(const Tensor& out, const Tensor& a, const Tensor& b) override;
  void gelu_forward(const Tensor& out, const Tensor& x) override;
  void gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout,
                     const Tensor& x) override;

  void attention_forward(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                         const Tensor& v, const CuSeqlens& cu_seqlens_q,
                         const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) override;
  void attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dout,
                          const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                          const Tensor& v, const CuSeqlens& cu_seqlens_q,
                          const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) override;
  void attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                       const Tensor& block_lse) override;

  void gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table) override;
  void embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids) override;
  void cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                     const Tensor& labels, const CrossEntropyOptions& options) override;

  double sum(const Tensor& in) override;
  double sum_of_squares(const Tensor& in) override;
  void random_normal(const Tensor& out, const base::RandomStream& stream, double deviation,
                     std::uint64_t first_element) override;
  void random_uniform(const Tensor& out, const base::RandomStream& stream, double bound,
                      std::uint64_t first_element) override;
  void dropout(const Tensor& out, const Tensor& x, const Tensor& numbers,
               const base::RandomStream& stream, double probability) override;
  void fill(const Tensor& out, double value) override;
  void adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
             const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options) override;
  void adamw_compressed(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                        const Tensor& moment2, const Tensor& gradient, const Tensor& direction,
                        const AdamWOptions& options) override;
  void adamw_8bit(const Tensor& weight, const Tensor& master, const Tensor& codes1,
                  const Tensor& scales1, const Tensor& codes2, const Tensor& scales2,
                  const Tensor& gradient, const AdamWOptions& options) override;

 private:
  std::shared_ptr<Arena> arena_;
  Matmul matmul_;
  Attention attention_;
};

}  // namespace longspan::backend::cpu
