#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/backend/device_profile.h"

namespace longspan::backend {

/// What operations cost, counted or estimated.
struct DryCounts {
  double matmul_flops = 0;     ///< 2 m n k a product
  double attention_flops = 0;  ///< of the pairs that are seen; the backward with its recomputation
  double bytes_moved = 0;      ///< operands read and results written, once each
  double compute_seconds = 0;  ///< by the roofline
  double communication_seconds = 0;  ///< in which the device does nothing else
  double host_link_seconds = 0;      ///< of downloads and uploads that the device waits for
  double beside_seconds = 0;         ///< of those that run beside its work
  std::int64_t operations = 0;

  double seconds() const {
    return std::max(compute_seconds, beside_seconds) + communication_seconds + host_link_seconds;
  }
};

/// Part of a step, named by its outermost scope.
struct DryPhase {
  const char* name = "";
  DryCounts counts;
  std::array<std::size_t, kMemoryTags> peak{};  ///< most live bytes of each tag
  std::size_t peak_total = 0;                   ///< most live bytes of all
};

/// Live bytes by tag at a moment of the estimated time.
struct DrySample {
  double seconds = 0;
  std::array<std::size_t, kMemoryTags> live{};
  std::size_t total = 0;
};

/// Allocations that were live at the peak, alike in everything.
struct DryAllocation {
  MemoryTag tag = MemoryTag::kWorkspace;
  std::string place;  ///< where it was made, without numbers
  std::string shape;  ///< "[1024, 768] bfloat16"
  std::int64_t count = 0;
  std::size_t bytes = 0;  ///< of all of them
};

/// A backend that computes nothing: it gives out addresses, keeps the ledger exactly as the
/// profile's real backend does (for "cpu": to the byte; for "cuda": with the workspaces its
/// libraries are expected to take), counts FLOPs and bytes, and adds up time by a roofline. Numbers
/// read back from it are 0.
class DryBackend : public Backend {
 public:
  /// `threads` of the rank: of kind "cpu", rates and workspaces depend on them.
  DryBackend(const DeviceProfile& profile, int threads);
  ~DryBackend() override;

  const DeviceProfile& profile() const;
  /// Forgets counts, phases and samples, and starts the ledger's peaks anew.
  void start_step();
  DryCounts counts() const;
  const std::vector<DryPhase>& phases() const;
  /// At most a few thousand moments of the step, in order; among them the peak.
  std::vector<DrySample> timeline() const;
  /// Which change of the ledger brought the peak, counted from the first allocation; and, in
  /// another run of the same work that was told to, what was live then.
  std::int64_t peak_change() const;
  void watch(std::int64_t change);
  std::vector<DryAllocation> watched() const;
  /// Bytes of one range of addresses in which all allocations found room so far, gaps included:
  /// what a device must have whose memory is reserved in one piece.
  std::size_t footprint() const;
  /// Communication of so many seconds, which begins when what was started before is over: the
  /// moment of its end. The device's other work goes on beside it.
  double start_communication(double seconds);
  /// The device does nothing until then.
  void await(double moment);

  std::string name() const override;
  std::string description() const override;
  bool supports(base::DType dtype, std::string* why_not) const override;
  bool is_asynchronous() const override;
  Tensor allocate(const Shape& shape, base::DType dtype, MemoryTag tag) override;
  const Ledger& ledger() const override;
  void reset_peaks() override;
  void enter(const char* name, Index number) override;
  void leave() override;
  std::size_t memory_limit() const override;

  void zero(const Tensor& out) override;
  void copy(const Tensor& out, const Tensor& in) override;
  void copy_all(const std::vector<Tensor>& outs, const std::vector<Tensor>& ins) override;
  void copy_from_host(const Tensor& out, const void* host, std::size_t bytes) override;
  void copy_to_host(void* host, const Tensor& in, std::size_t bytes) override;
  void download(const Tensor& host, const Tensor& in) override;
  void upload(const Tensor& out, const Tensor& host) override;
  std::unique_ptr<Transfer> start_download(const Tensor& host, const Tensor& in) override;
  std::unique_ptr<Transfer> start_upload(const Tensor& out, const Tensor& host) override;
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
  DrawnRows draw_rows(const Tensor& rows, const Tensor& weights, const Tensor& x_norms,
                      const Tensor& dy_norms, const Tensor& numbers,
                      const RowDraw& options) override;
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
  void principal_directions(const Tensor& directions, const Tensor& gram) override;
  void adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
             const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options) override;
  void adamw_compressed(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                        const Tensor& moment2, const Tensor& gradient, const Tensor& direction,
                        const AdamWOptions& options) override;
  void adamw_8bit(const Tensor& weight, const Tensor& master, const Tensor& codes1,
                  const Tensor& scales1, const Tensor& codes2, const Tensor& scales2,
                  const Tensor& gradient, const AdamWOptions& options) override;

 private:
  class State;
  class Buffer;
  void stream(std::initializer_list<const Tensor*> tensors);
  bool plain_attention(const Tensor& q, const AttentionOptions& options) const;

  std::shared_ptr<State> state_;
};

}  // namespace longspan::backend
