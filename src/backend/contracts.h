#pragma once

#include <cstddef>

#include "longspan/backend/backend.h"

// What each operation of Backend asks of its tensors, for all backends that compute: each throws
// InternalError where a shape or dtype breaks the contract. `operation` is the name in the message.
namespace longspan::backend {

// movement
void check_defined(const char* operation, const char* name, const Tensor& tensor);
void check_copy(const Tensor& out, const Tensor& in);
void check_copy_all(const std::vector<Tensor>& outs, const std::vector<Tensor>& ins);
void check_add(const Tensor& out, const Tensor& a, const Tensor& b);
void check_accumulate(const Tensor& out, const Tensor& in);
void check_scale(const Tensor& out);

// RMS norm
void check_rms_norm(const char* operation, const Tensor& out, const Tensor& rstd, const Tensor& x,
                    const Tensor& weight);
void check_add_rms_norm(const Tensor& out, const Tensor& rstd, const Tensor& sum, const Tensor& a,
                        const Tensor& b, const Tensor& weight);
void check_rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                             const Tensor& residual, const Tensor& rstd, const Tensor& x,
                             const Tensor& weight);

// layer norm
void check_layer_norm(const char* operation, const Tensor& out, const Tensor& mean,
                      const Tensor& rstd, const Tensor& x, const Tensor& weight,
                      const Tensor& bias);
void check_add_layer_norm(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                          const Tensor& sum, const Tensor& a, const Tensor& b, const Tensor& weight,
                          const Tensor& bias);
void check_layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                               const Tensor& dy, const Tensor& residual, const Tensor& mean,
                               const Tensor& rstd, const Tensor& x, const Tensor& weight);

// rotary positions; `frequencies` is the length of inverse_frequencies
void check_rope_table(const Tensor& table, const Tensor& positions, std::size_t frequencies);
void check_rope(const Tensor& out, const Tensor& x, const Tensor& table);

// 8-bit codes
/// `x` is what the codes stand for.
void check_codes(const char* operation, const char* name, const Tensor& x, const Tensor& codes,
                 const Tensor& ranges);
void check_random_codes(const Tensor& x, const Tensor& codes, const Tensor& ranges,
                        const CodeRounding& rounding);
// gated MLP
void check_gated_forward(const Tensor& out, const Tensor& gate_up);
void check_gated_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                          const Tensor& gate_up);

// biases and GELU
void check_add_bias(const Tensor& out, const Tensor& bias);
void check_bias_backward(const Tensor& dbias, const Tensor& dy);
void check_gelu_forward(const Tensor& out, const Tensor& x);
void check_gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout, const Tensor& x);

// attention
void check_attention(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                     const Tensor& v, const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                     const AttentionOptions& options);
void check_attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                           const Tensor& block_lse);

// embedding and loss; ids and labels themselves are not looked at: they may lie on a device
void check_gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table);
void check_embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids);
void check_cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                         const Tensor& labels, const CrossEntropyOptions& options);

// dropout; the numbers themselves are not looked at
void check_dropout(const Tensor& out, const Tensor& x, const Tensor& numbers, double probability);

// products element by element
void check_add_product(const Tensor& out, const Tensor& x, const Tensor& y, const Tensor& gate);
void check_multiply(const Tensor& out, const Tensor& a, const Tensor& b);

// 4-bit weights
void check_nf4_quantize(const Tensor& codes, const Tensor& sizes, const Tensor& x);
void check_nf4_quantize_sizes(const Tensor& codes, const Tensor& scales, const Tensor& sizes);
void check_nf4_dequantize(const Tensor& out, const Tensor& codes, const Tensor& size_codes,
                          const Tensor& scales);

// optimizer
void check_principal_directions(const Tensor& directions, const Tensor& gram);
void check_adamw_8bit(const Tensor& weight, const Tensor& master, const Tensor& codes1,
                      const Tensor& scales1, const Tensor& codes2, const Tensor& scales2,
                      const Tensor& gradient, const AdamWOptions& options);
void check_project(const Tensor& out, const Tensor& x, const Tensor& direction);
void check_row_norms(const Tensor& norms, const Tensor& x);
void check_scale_rows(const Tensor& out, const Tensor& factors);
void check_draw_rows(const Tensor& rows, const Tensor& weights, const Tensor& x_norms,
                     const Tensor& dy_norms, const Tensor& numbers, const RowDraw& options);
void check_adamw_compressed(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                            const Tensor& moment2, const Tensor& gradient, const Tensor& direction,
                            const AdamWOptions& options);
void check_adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                 const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options);

}  // namespace longspan::backend
