#pragma once

#include <vector>

#include "backend/cuda/queue.h"

// The cuda backend's own operations as free functions, one file of kernels/ a family; contracts and
// argument names are those of the Backend methods of the same name. Each launches kernels on the
// queue and returns; tensors must live on the device until the queue has done them.
namespace longspan::backend::cuda {

// movement.cu
void zero(const Queue& queue, const Tensor& out);
void fill(const Queue& queue, const Tensor& out, double value);
void copy(const Queue& queue, const Tensor& out, const Tensor& in);
void copy_all(const Queue& queue, const std::vector<Tensor>& outs, const std::vector<Tensor>& ins);
void add(const Queue& queue, const Tensor& out, const Tensor& a, const Tensor& b);
void accumulate(const Queue& queue, const Tensor& out, const Tensor& in);

// rms_norm.cu
void rms_norm_forward(const Queue& queue, const Tensor& out, const Tensor& rstd, const Tensor& x,
                      const Tensor& weight, float epsilon);
void add_rms_norm_forward(const Queue& queue, const Tensor& out, const Tensor& rstd,
                          const Tensor& sum, const Tensor& a, const Tensor& b, const Tensor& weight,
                          float epsilon);
void rms_norm_again(const Queue& queue, const Tensor& out, const Tensor& rstd, const Tensor& x,
                    const Tensor& weight);
void rms_norm_backward(const Queue& queue, const Tensor& dx, const Tensor& dweight,
                       const Tensor& dy, const Tensor& residual, const Tensor& rstd,
                       const Tensor& x, const Tensor& weight);

// layer_norm.cu
void layer_norm_forward(const Queue& queue, const Tensor& out, const Tensor& mean,
                        const Tensor& rstd, const Tensor& x, const Tensor& weight,
                        const Tensor& bias, float epsilon);
void add_layer_norm_forward(const Queue& queue, const Tensor& out, const Tensor& mean,
                            const Tensor& rstd, const Tensor& sum, const Tensor& a, const Tensor& b,
                            const Tensor& weight, const Tensor& bias, float epsilon);
void layer_norm_backward(const Queue& queue, const Tensor& dx, const Tensor& dweight,
                         const Tensor& dbias, const Tensor& dy, const Tensor& residual,
                         const Tensor& mean, const Tensor& rstd, const Tensor& x,
                         const Tensor& weight);

// rope.cu
void rope_table(const Queue& queue, const Tensor& table, const Tensor& positions,
                const std::vector<double>& inverse_frequencies);
void rope(const Queue& queue, const Tensor& out, const Tensor& x, const Tensor& table,
          bool inverse);

// swiglu.cu
void swiglu_forward(const Queue& queue, const Tensor& out, const Tensor& gate_up);
void swiglu_backward(const Queue& queue, const Tensor& dgate_up, const Tensor& out,
                     const Tensor& dout, const Tensor& gate_up);

// bias.cu
void add_bias(const Queue& queue, const Tensor& out, const Tensor& bias);
void bias_backward(const Queue& queue, const Tensor& dbias, const Tensor& dy);

// gelu.cu
void gelu_forward(const Queue& queue, const Tensor& out, const Tensor& x);
void gelu_backward(const Queue& queue, const Tensor& dx, const Tensor& out, const Tensor& dout,
                   const Tensor& x);

// attention_plain_forward.cu, attention_plain_backward.cu: every dtype, head_dim up to 512; bit for
// bit reproducible
void attention_plain_forward(const Queue& queue, const Tensor& out, const Tensor& lse,
                             const Tensor& q, const Tensor& k, const Tensor& v,
                             const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                             const AttentionOptions& options);
void attention_plain_backward(const Queue& queue, const Tensor& dq, const Tensor& dk,
                              const Tensor& dv, const Tensor& dout, const Tensor& out,
                              const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                              const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                              const AttentionOptions& options);

// attention_merge.cu
void attention_merge(const Queue& queue, const Tensor& out, const Tensor& lse,
                     const Tensor& block_out, const Tensor& block_lse);

// embedding.cu. Ids are not checked, as that would wait for the device: gather_rows gives NaN for
// an id beyond the table, embedding_backward leaves out ids that are not in it.
void gather_rows(const Queue& queue, const Tensor& out, const Tensor& ids, const Tensor& table);
void embedding_backward(const Queue& queue, const Tensor& dtable, const Tensor& dy,
                        const Tensor& ids);

// cross_entropy.cu. A label outside of the vocabulary, other than kIgnoredLabel, gives a loss that
// is NaN.
void cross_entropy(const Queue& queue, const Tensor& nll, const Tensor& dlogits,
                   const Tensor& logits, const Tensor& labels, double scale);

// reductions.cu: these wait for the queue
double sum(const Queue& queue, const Tensor& in);
double sum_of_squares(const Queue& queue, const Tensor& in);

// random.cu
void random_normal(const Queue& queue, const Tensor& out, const base::RandomStream& stream,
                   double deviation, std::uint64_t first_element);

// adamw.cu
void adamw(const Queue& queue, const Tensor& weight, const Tensor& master, const Tensor& moment1,
           const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options);

}  // namespace longspan::backend::cuda
