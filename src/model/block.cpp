#include "model/block.h"

#include <utility>

namespace longspan::model {

using backend::Tensor;

Block::Block(nn::ParameterSet& parameters, const std::string& prefix, const LlamaConfig& config,
             Checkpointing checkpointing, std::optional<nn::MiniSequence> mlp)
    : checkpointing_(checkpointing),
      attention_norm_(parameters, prefix + "input_layernorm.weight", config.hidden_size,
                      config.rms_norm_eps),
      attention_(parameters, prefix + "self_attn.",
                 {.hidden = config.hidden_size,
                  .heads = config.num_attention_heads,
                  .kv_heads = config.num_key_value_heads,
                  .head_dim = config.head_dim}),
      mlp_norm_(parameters, prefix + "post_attention_layernorm.weight", config.hidden_size,
                config.rms_norm_eps),
      mlp_(parameters, prefix + "mlp.", config.hidden_size, config.intermediate_size, mlp) {}

nn::AttentionKeep Block::keep() const {
  switch (checkpointing_) {
    case Checkpointing::kNone:
      return nn::AttentionKeep::kAll;
    case Checkpointing::kBlockKeepAttention:
      return nn::AttentionKeep::kOutput;
    case Checkpointing::kBlock:
      break;
  }
  return nn::AttentionKeep::kNothing;
}

void Block::forward(const Tensor& out, const Tensor& x, nn::Pass& pass,
                    const nn::AttentionCache* cache) const {
  const bool keeps = checkpointing_ == Checkpointing::kNone;
  const auto statistics = [&] {
    const backend::Shape shape{x.size(0)};
    return keeps ? pass.saved_statistics(shape) : pass.workspace_statistics(shape);
  };
  // Every stage works in the buffer of its result.
  Tensor mid = keeps ? pass.saved(x.shape()) : pass.workspace(x.shape());
  Tensor attention_rstd = statistics();
  {
    const backend::Scope scope(pass.backend(), "attention");
    attention_norm_.forward(mid, attention_rstd, x, pass);
    attention_.forward(mid, mid, pass, cache, keep());
  }
  Tensor mlp_rstd = statistics();
  {
    const backend::Scope scope(pass.backend(), "mlp");
    mlp_norm_.add_forward(out, mlp_rstd, mid, mid, x, pass);
    mlp_.forward(out, out, pass);
    pass.backend().add(out, out, mid);
  }
  if (keeps) {
    pass.push(std::move(attention_rstd));
    pass.push(std::move(mlp_rstd));
    pass.push(std::move(mid));
  }
  pass.park(x);
}

/// The forward once more, as far as the MLP's norm, which adds x to `mid`; the attention's slots
/// are on the pass again.
Block::Middle Block::attend_again(const Tensor& x, nn::Pass& pass) const {
  const backend::Scope scope(pass.backend(), "attention again");
  const backend::Shape rows{x.size(0)};
  Middle middle{pass.saved(x.shape()), pass.saved_statistics(rows), pass.saved_statistics(rows)};
  attention_norm_.forward(middle.mid, middle.attention_rstd, x, pass);
  attention_.again(middle.mid, middle.mid, pass, keep());
  return middle;
}

/// The same, as a forward that kept everything left it.
Block::Middle Block::take_middle(nn::Pass& pass) {
  Middle middle;
  middle.mid = pass.pop();
  middle.mlp_rstd = pass.pop();
  middle.attention_rstd = pass.pop();
  return middle;
}

void Block::backward(const Tensor& d, nn::Pass& pass) const {
  const bool kept = checkpointing_ == Checkpointing::kNone;
  const Tensor x = pass.pop();
  Middle middle = kept ? take_middle(pass) : attend_again(x, pass);
  {
    const backend::Scope scope(pass.backend(), "mlp");
    const Tensor branch = pass.workspace(x.shape());  // the norm's output, then its gradient
    if (kept) {
      mlp_norm_.again(branch, middle.mlp_rstd, middle.mid, pass);
    } else {
      mlp_norm_.add_forward(branch, middle.mlp_rstd, middle.mid, middle.mid, x, pass);
    }
    mlp_.backward(branch, d, branch, pass);
    mlp_norm_.backward(d, branch, d, middle.mlp_rstd, middle.mid, pass);
    middle.mid = {};
  }
  const backend::Scope scope(pass.backend(), "attention");
  Tensor dqkv = attention_.backward_to_qkv(d, pass);
  const Tensor branch = pass.workspace(x.shape());
  attention_norm_.again(branch, middle.attention_rstd, x, pass);
  attention_.backward_to_input(branch, dqkv, branch, pass);
  dqkv = {};
  attention_norm_.backward(d, branch, d, middle.attention_rstd, x, pass);
}

}  // namespace longspan::model
