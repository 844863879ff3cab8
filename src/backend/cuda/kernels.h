#pragma once

#include <vector>

#include "backend/cuda/queue.h"

namespace longspan::backend::cuda {

/// The operations that are kernels of our own, one file of kernels/ a family. Each launches kernels
/// on the queue and returns; tensors must live on the device until the queue has done them.
class CudaKernels : public Backend {
 public:
  /// On the compute stream of a device.
  explicit CudaKernels(cudaStream_t stream) : queue_{stream, this} {}

  const Queue& queue() const { return queue_; }

  // movement.cu
  void zero(const Tensor& out) override;
  void fill(const Tensor& out, double value) override;
  void copy(const Tensor& out, const Tensor& in) override;
  void copy_all(const std::vector<Tensor>& outs, const std::vector<Tensor>& ins) override;
  void add(const Tensor& out, const Tensor& a, const Tensor& b) override;
  void accumulate(const Tensor& out, const Tensor& in) override;

  // scale.cu
  void scale(const Tensor& out, double factor) override;

  // rms_norm.cu
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

  // layer_norm.cu
  void layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                          const Tensor& x, const Tensor& weight, const Tensor& bias,
                          float epsilon) override;
  void add_layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                              const Tensor& sum, const Tensor& a, const Tensor& b,
                              const Tensor& weight, const Tensor& bias, float epsilon) override;
  void layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                           const Tensor& dy, const Tensor& residual, const Tensor& mean,
                           const Tensor& rstd, const Tensor& x, const Tensor& weight) override;

  // rope.cu
  void rope_table(const Tensor& table, const Tensor& positions,
                  const std::vector<double>& inverse_frequencies, double scale) override;
  void rope(const Tensor& out, const Tensor& x, const Tensor& table, bool inverse) override;

  // int8.cu
  void quantize(const Tensor& codes, const Tensor& ranges, const Tensor& x) override;
  void quantize_at_random(const Tensor& codes, const Tensor& ranges, const Tensor& x,
                          const CodeRounding& rounding) override;
  void dequantize(const Tensor& out, const Tensor& codes, const Tensor& ranges) override;

  // nf4.cu
  void nf4_quantize(const Tensor& codes, const Tensor& sizes, const Tensor& x) override;
  void nf4_quantize_sizes(const Tensor& codes, const Tensor& scales, const Tensor& sizes,
                          float mean) override;
  void nf4_dequantize(const Tensor& out, const Tensor& codes, const Tensor& size_codes,
                      const Tensor& scales, float mean) override;
  // gated.cu
  void gated_forward(const Tensor& out, const Tensor& gate_up, GateActivation activation) override;
  void gated_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                      const Tensor& gate_up, GateActivation activation) override;

  // bias.cu
  void add_bias(const Tensor& out, const Tensor& bias) override;
  void bias_backward(const Tensor& dbias, const Tensor& dy) override;

  // products.cu
  void add_product(const Tensor& out, const Tensor& x, const Tensor& y,
                   const Tensor& gate) override;
  void multiply(const Tensor& out, const Tensor& a, const Tensor& b) override;

  // gelu.cu
  void gelu_forward(const Tensor& out, const Tensor& x) override;
  void gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout,
                     const Tensor& x) override;

  // attention_merge.cu
  void attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                       const Tensor& block_lse) override;

  // embedding.cu. Ids are not checked, as that would wait for the device: gather_rows gives NaN for
  // an id beyond the table; embedding_backward must not be given one.
  void gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table) override;
  void embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids) override;

  // cross_entropy.cu. A label outside of the vocabulary, other than kIgnoredLabel, gives a loss
  // that is NaN.
  void cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                     const Tensor& labels, const CrossEntropyOptions& options) override;

  // reductions.cu: these wait for the queue
  double sum(const Tensor& in) override;
  double sum_of_squares(const Tensor& in) override;

  // random.cu
  void random_normal(const Tensor& out, const base::RandomStream& stream, double deviation,
                     std::uint64_t first_element) override;
  void random_uniform(const Tensor& out, const base::RandomStream& stream, double bound,
                      std::uint64_t first_element) override;

  // dropout.cu
  void dropout(const Tensor& out, const Tensor& x, const Tensor& numbers,
               const base::RandomStream& stream, double probability) override;

  // adamw.cu
  void adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
             const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options) override;

  // compressed.cu
  void project(const Tensor& out, const Tensor& x, const Tensor& direction, double scale) override;
  void adamw_compressed(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                        const Tensor& moment2, const Tensor& gradient, const Tensor& direction,
                        const AdamWOptions& options) override;

  // sampled_rows.cu
  void row_norms(const Tensor& norms, const Tensor& x) override;
  void scale_rows(const Tensor& out, const Tensor& factors) override;

  // adamw_8bit.cu
  void adamw_8bit(const Tensor& weight, const Tensor& master, const Tensor& codes1,
                  const Tensor& scales1, const Tensor& codes2, const Tensor& scales2,
                  const Tensor& gradient, const AdamWOptions& options) override;

 private:
  Queue queue_;
};

}  // namespace longspan::backend::cuda
