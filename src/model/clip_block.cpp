#include "model/clip_block.h"

#include <utility>

namespace longspan::model {

using backend::Tensor;

namespace {

nn::AttentionProjections projections_of(const std::string& prefix, const ClipConfig& config,
                                        ClipAttention attention) {
  nn::AttentionProjections projections;
  projections.qkv = {prefix + "attention.qkv"};
  projections.output = prefix + "attention.output";
  projections.is_rotary = attention == ClipAttention::kTemporal;
  projections.query_norm = prefix + "attention.query_norm";
  projections.key_norm = prefix + "attention.key_norm";
  projections.norm_options.epsilon = static_cast<float>(config.norm_epsilon);
  // Along time nothing is added at first.
  if (attention == ClipAttention::kTemporal) projections.output_options.initial_scale = 0.0;
  return projections;
}

nn::MlpProjections mlp_of(const std::string& prefix) {
  nn::MlpProjections projections;
  projections.up = {prefix + "mlp.up"};
  projections.down = prefix + "mlp.down";
  projections.up_options.has_bias = true;
  projections.down_options.has_bias = true;
  return projections;
}

Tensor made(bool keeps, const backend::Shape& shape, const nn::Pass& pass) {
  return keeps ? pass.saved(shape) : pass.workspace(shape);
}
Tensor made_statistics(bool keeps, backend::Index tokens, const nn::Pass& pass) {
  const backend::Shape shape{2, tokens};
  return keeps ? pass.saved_statistics(shape) : pass.workspace_statistics(shape);
}

/// The other order.
shard::ClipOrder other_than(shard::ClipOrder order) {
  return order == shard::ClipOrder::kByFrame ? shard::ClipOrder::kByPlace
                                             : shard::ClipOrder::kByFrame;
}

}  // namespace

void ClipBlockPasses::to_attention(const Tensor& out, const Tensor& in) const {
  const backend::Scope scope(attention->backend(), "switch");
  axes->to(attends, out, in);
}

void ClipBlockPasses::to_residual(const Tensor& out, const Tensor& in) const {
  const backend::Scope scope(attention->backend(), "switch");
  axes->to(other_than(attends), out, in);
}

ClipBlock::ClipBlock(nn::ParameterSet& parameters, const std::string& prefix,
                     const ClipConfig& config, ClipAttention attention)
    : modulation_(parameters, prefix + "modulation", config.hidden_size, config.norm_epsilon),
      attention_(parameters, projections_of(prefix, config, attention),
                 {.hidden = config.hidden_size,
                  .heads = config.num_attention_heads,
                  .kv_heads = config.num_attention_heads,
                  .head_dim = config.head_dim()},
                 {.causal = attention == ClipAttention::kTemporal && config.is_causal}),
      mlp_(parameters, mlp_of(prefix), nn::Activation::kGeluTanh, config.hidden_size,
           config.intermediate_size) {
  if (config.num_classes > 0) {
    cross_attention_.emplace(parameters, prefix + "cross_attention", config.hidden_size,
                             config.num_attention_heads);
  }
}

/// The block as far as its MLP's norm. With `keeps` attention and cross-attention leave what their
/// backward needs on their passes. `parts`: what a forward that kept the input alone left.
ClipBlock::Parts ClipBlock::attend(const Tensor& x, const nn::Modulation::Vectors& vectors,
                                   const ClipConditions& conditions, bool keeps,
                                   const ClipBlockPasses& passes, Parts parts) const {
  nn::Pass& pass = *passes.residual;
  const backend::Scope scope(pass.backend(), "attention");
  parts.statistics = made_statistics(keeps, x.size(0), pass);
  if (!parts.attended.defined()) {
    parts.attended = made(keeps || passes.switches(), x.shape(), pass);
  }
  parts.middle = made(keeps, x.shape(), pass);
  {
    Tensor normed = pass.workspace(x.shape());
    modulation_.norm(normed, parts.statistics, x, vectors, 0, pass);
    attend_to(parts, std::move(normed), keeps, passes);
  }
  modulation_.add(parts.middle, x, parts.attended, vectors, 0, pass);
  parts.crossed = parts.middle;
  if (cross_attention_) {
    parts.crossed = made(keeps, x.shape(), pass);
    cross_attention_->forward(parts.crossed, parts.middle, conditions.classes, keeps, pass);
    pass.backend().add(parts.crossed, parts.crossed, parts.middle);
  }
  parts.mlp_statistics = made_statistics(keeps, x.size(0), pass);
  return parts;
}

/// Attention of the norm's result. Once it was given that behind a switch, and what it gave came
/// back, neither is sent again: all that is left to make is what its backward needs.
void ClipBlock::attend_to(Parts& parts, Tensor normed, bool keeps,
                          const ClipBlockPasses& passes) const {
  const auto attend = [&](const Tensor& out, const Tensor& x) {
    attention_.forward(out, x, *passes.attention, nullptr,
                       keeps ? nn::AttentionKeep::kAll : nn::AttentionKeep::kNothing);
  };
  if (!passes.switches()) return attend(parts.attended, normed);
  if (parts.normed.defined()) return attend(Tensor(), parts.normed);
  parts.normed = passes.attention->saved({passes.attention->tokens(), normed.size(1)});
  passes.to_attention(parts.normed, normed);
  normed = {};
  const Tensor attended = passes.attention->workspace(parts.normed.shape());
  attend(attended, parts.normed);
  passes.to_residual(parts.attended, attended);
}

void ClipBlock::forward(const Tensor& out, const Tensor& x, const ClipConditions& conditions,
                        const ClipBlockMemory& memory, const ClipBlockPasses& passes) const {
  const bool keeps = !memory.keeps_input_alone;
  nn::Pass& pass = *passes.residual;
  pass.start_block();
  if (passes.switches()) passes.attention->start_block();
  const nn::Modulation::Vectors vectors = modulation_.of(conditions.blocks, *passes.rows, pass);
  Parts parts = attend(x, vectors, conditions, keeps, passes, {});
  {
    const backend::Scope scope(pass.backend(), "mlp");
    parts.added = made(keeps, x.shape(), pass);
    modulation_.norm(out, parts.mlp_statistics, parts.crossed, vectors, 1, pass);
    mlp_.forward(parts.added, out, pass, memory.mlp);
    modulation_.add(out, parts.crossed, parts.added, vectors, 1, pass);
  }
  push(std::move(parts), keeps, passes);
  pass.push(x);
}

void ClipBlock::push(Parts parts, bool keeps, const ClipBlockPasses& passes) const {
  nn::Pass& pass = *passes.residual;
  if (passes.switches()) pass.push(std::move(parts.normed));
  if (keeps || passes.switches()) pass.push(std::move(parts.attended));
  if (!keeps) return;
  pass.push(std::move(parts.statistics));
  if (cross_attention_) pass.push(std::move(parts.middle));
  pass.push(std::move(parts.crossed));
  pass.push(std::move(parts.mlp_statistics));
  pass.push(std::move(parts.added));
}

ClipBlock::Parts ClipBlock::pop(bool kept, const ClipBlockPasses& passes) const {
  nn::Pass& pass = *passes.residual;
  Parts parts;
  if (kept) {
    parts.added = pass.pop();
    parts.mlp_statistics = pass.pop();
    parts.crossed = pass.pop();
    parts.middle = cross_attention_ ? pass.pop() : parts.crossed;
    parts.statistics = pass.pop();
  }
  if (kept || passes.switches()) parts.attended = pass.pop();
  if (passes.switches()) parts.normed = pass.pop();
  return parts;
}

void ClipBlock::backward(const Tensor& d, const ClipConditions& conditions,
                         const ClipBlockMemory& memory, const ClipBlockPasses& passes) const {
  nn::Pass& pass = *passes.residual;
  const Tensor x = pass.pop();
  const nn::Modulation::Vectors vectors = modulation_.of(conditions.blocks, *passes.rows, pass);
  const bool kept = !memory.keeps_input_alone;
  Parts parts = pop(kept, passes);
  if (!kept) {
    parts = attend(x, vectors, conditions, /*keeps=*/true, passes, std::move(parts));
  }
  const Tensor branch = pass.workspace(x.shape());
  const Tensor gradient = pass.workspace(x.shape());
  {
    const backend::Scope scope(pass.backend(), "mlp");
    modulation_.norm(branch, parts.mlp_statistics, parts.crossed, vectors, 1, pass);
    if (!kept) {
      parts.added = pass.workspace(x.shape());
      mlp_.forward(parts.added, branch, pass, memory.mlp);  // in portions, which keep nothing
    }
    modulation_.add_backward(gradient, d, parts.added, vectors, 1, pass);
    parts.added = {};
    mlp_.backward(gradient, gradient, branch, pass, memory.mlp);
    modulation_.norm_backward(d, gradient, d, parts.mlp_statistics, parts.crossed, vectors, 1,
                              pass);
  }
  const backend::Scope scope(pass.backend(), "attention");
  if (cross_attention_) {
    cross_attention_->backward(gradient, conditions.classes_gradient, d, parts.middle,
                               conditions.classes, pass);
    pass.backend().add(d, d, gradient);
  }
  modulation_.add_backward(gradient, d, parts.attended, vectors, 0, pass);
  if (!passes.switches()) modulation_.norm(branch, parts.statistics, x, vectors, 0, pass);
  attention_backward(gradient, passes.switches() ? parts.normed : branch, passes);
  modulation_.norm_backward(d, gradient, d, parts.statistics, x, vectors, 0, pass);
  modulation_.backward(conditions.blocks_gradient, vectors, pass);
}

/// d: the gradient of what attention gave, which becomes that of the norm's result; `normed`: that,
/// as attention had it.
void ClipBlock::attention_backward(const Tensor& d, const Tensor& normed,
                                   const ClipBlockPasses& passes) const {
  const auto through = [&](const Tensor& gradient) {
    const Tensor dqkv = attention_.backward_to_qkv(gradient, normed, *passes.attention);
    attention_.backward_to_input(gradient, dqkv, normed, *passes.attention);
  };
  if (!passes.switches()) return through(d);
  const Tensor there = passes.attention->workspace(normed.shape());
  passes.to_attention(there, d);
  through(there);
  passes.to_residual(d, there);
}

}  // namespace longspan::model
