#pragma once

#include <vector>

#include "longspan/backend/backend.h"

// The cpu backend's operations as free functions, one file a family; contracts and argument names
// are those of the Backend methods of the same name.
namespace longspan::backend::cpu {

// movement.cpp
void zero(const Tensor& out);
void fill(const Tensor& out, double value);
void copy(const Tensor& out, const Tensor& in);
void copy_from_host(const Tensor& out, const void* host, std::size_t bytes);
void copy_to_host(void* host, const Tensor& in, std::size_t bytes);
void add(const Tensor& out, const Tensor& a, const Tensor& b);
void accumulate(const Tensor& out, const Tensor& in);

// rms_norm.cpp
void rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& x, const Tensor& weight,
                      float epsilon);
void add_rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& sum, const Tensor& a,
                          const Tensor& b, const Tensor& weight, float epsilon);
void rms_norm_again(const Tensor& out, const Tensor& rstd, const Tensor& x, const Tensor& weight);
void rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                       const Tensor& residual, const Tensor& rstd, const Tensor& x,
                       const Tensor& weight);

// layer_norm.cpp
void layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                        const Tensor& weight, const Tensor& bias, float epsilon);
void add_layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                            const Tensor& sum, const Tensor& a, const Tensor& b,
                            const Tensor& weight, const Tensor& bias, float epsilon);
void layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                         const Tensor& dy, const Tensor& residual, const Tensor& mean,
                         const Tensor& rstd, const Tensor& x, const Tensor& weight);

// rope.cpp
void rope_table(const Tensor& table, const Tensor& positions,
                const std::vector<double>& inverse_frequencies);
void rope(const Tensor& out, const Tensor& x, const Tensor& table, bool inverse);

// swiglu.cpp
void swiglu_forward(const Tensor& out, const Tensor& gate_up);
void swiglu_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                     const Tensor& gate_up);

// bias.cpp
void add_bias(const Tensor& out, const Tensor& bias);
void bias_backward(const Tensor& dbias, const Tensor& dy);

// gelu.cpp
void gelu_forward(const Tensor& out, const Tensor& x);
void gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout, const Tensor& x);

// attention_merge.cpp
void attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                     const Tensor& block_lse);

// embedding.cpp
void gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table);
void embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids);

// cross_entropy.cpp
void cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                   const Tensor& labels, double scale);

// reductions.cpp
double sum(const Tensor& in);
double sum_of_squares(const Tensor& in);

// random.cpp
void random_normal(const Tensor& out, const base::RandomStream& stream, double deviation,
                   std::uint64_t first_element);

// adamw.cpp
void adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1, const Tensor& moment2,
           const Tensor& gradient, const AdamWOptions& options);

}  // namespace longspan::backend::cpu
