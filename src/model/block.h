#pragma once

#include <string>

#include "longspan/model/llama_config.h"
#include "longspan/nn/attention.h"
#include "longspan/nn/gated_mlp.h"
#include "longspan/nn/rms_norm.h"

namespace longspan::model {

/// One pre-norm transformer block: mid = x + attention(norm(x)); out = mid + mlp(norm(mid)).
/// Of its own it keeps x, mid and the norms' rstd; the norms' outputs are made again in the
/// backward.
class Block {
 public:
  /// Declares the parameters `prefix`input_layernorm.weight ... mlp.down_proj.weight.
  Block(nn::ParameterSet& parameters, const std::string& prefix, const LlamaConfig& config);

  /// x, out [tokens, hidden]; out is not x. See nn::Attention for `cache`.
  void forward(const backend::Tensor& out, const backend::Tensor& x, nn::Pass& pass,
               const nn::AttentionCache* cache = nullptr) const;
  /// `d` [tokens, hidden] holds the gradient of out and is overwritten by that of x. The block
  /// kept x itself.
  void backward(const backend::Tensor& d, nn::Pass& pass) const;

 private:
  nn::RmsNorm attention_norm_;
  nn::Attention attention_;
  nn::RmsNorm mlp_norm_;
  nn::GatedMlp mlp_;
};

}  // namespace longspan::model
