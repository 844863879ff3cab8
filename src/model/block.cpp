#include "model/block.h"

#include <utility>

namespace longspan::model {

using backend::Tensor;

Block::Block(nn::ParameterSet& parameters, const std::string& prefix, const LlamaConfig& config)
    : attention_norm_(parameters, prefix + "input_layernorm.weight", config.hidden_size,
                      config.rms_norm_eps),
      attention_(parameters, prefix + "self_attn.",
                 {.hidden = config.hidden_size,
                  .heads = config.num_attention_heads,
                  .kv_heads = config.num_key_value_heads,
                  .head_dim = config.head_dim}),
      mlp_norm_(parameters, prefix + "post_attention_layernorm.weight", config.hidden_size,
                config.rms_norm_eps),
      mlp_(parameters, prefix + "mlp.", config.hidden_size, config.intermediate_size) {}

void Block::forward(const Tensor& out, const Tensor& x, nn::Pass& pass,
                    const nn::AttentionCache* cache) const {
  // Every stage works in the buffer of its result.
  Tensor mid = pass.saved(x.shape());
  Tensor attention_rstd = attention_norm_.forward(mid, x, pass);
  attention_.forward(mid, mid, pass, cache);
  pass.backend().add(mid, mid, x);

  Tensor mlp_rstd = mlp_norm_.forward(out, mid, pass);
  mlp_.forward(out, out, pass);
  pass.backend().add(out, out, mid);

  pass.push(x);
  pass.push(std::move(attention_rstd));
  pass.push(std::move(mid));
  pass.push(std::move(mlp_rstd));
}

void Block::backward(const Tensor& d, nn::Pass& pass) const {
  const Tensor mlp_rstd = pass.pop();
  Tensor mid = pass.pop();
  const Tensor attention_rstd = pass.pop();
  const Tensor x = pass.pop();
  const Tensor branch = pass.workspace(x.shape());  // a norm's output, then its gradient

  mlp_norm_.again(branch, mlp_rstd, mid, pass);
  mlp_.backward(branch, d, branch, pass);
  mlp_norm_.backward(d, branch, d, mlp_rstd, mid, pass);
  mid = {};

  attention_norm_.again(branch, attention_rstd, x, pass);
  attention_.backward(branch, d, branch, pass);
  attention_norm_.backward(d, branch, d, attention_rstd, x, pass);
}

}  // namespace longspan::model
