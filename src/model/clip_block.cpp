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

}  // namespace

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
/// backward needs on the pass; `again`: after a forward that left nothing.
ClipBlock::Parts ClipBlock::attend(const Tensor& x, const nn::Modulation::Vectors& vectors,
                                   const ClipConditions& conditions, bool keeps, bool again,
                                   nn::Pass& pass) const {
  const backend::Scope scope(pass.backend(), "attention");
  Parts parts;
  parts.statistics = made_statistics(keeps, x.size(0), pass);
  parts.attended = made(keeps, x.shape(), pass);
  parts.middle = made(keeps, x.shape(), pass);
  {
    const Tensor normed = pass.workspace(x.shape());
    modulation_.norm(normed, parts.statistics, x, vectors, 0, pass);
    if (again) {
      attention_.again(parts.attended, normed, pass, nn::AttentionKeep::kNothing);
    } else {
      attention_.forward(parts.attended, normed, pass, nullptr,
                         keeps ? nn::AttentionKeep::kAll : nn::AttentionKeep::kNothing);
    }
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

void ClipBlock::forward(const Tensor& out, const Tensor& x, const nn::ClipRows& rows,
                        const ClipConditions& conditions, const ClipBlockMemory& memory,
                        nn::Pass& pass) const {
  const bool keeps = !memory.keeps_input_alone;
  pass.start_block();
  const nn::Modulation::Vectors vectors = modulation_.of(conditions.blocks, rows, pass);
  Parts parts = attend(x, vectors, conditions, keeps, /*again=*/false, pass);
  {
    const backend::Scope scope(pass.backend(), "mlp");
    parts.added = made(keeps, x.shape(), pass);
    modulation_.norm(out, parts.mlp_statistics, parts.crossed, vectors, 1, pass);
    mlp_.forward(parts.added, out, pass, memory.mlp);
    modulation_.add(out, parts.crossed, parts.added, vectors, 1, pass);
  }
  if (keeps) {
    pass.push(std::move(parts.statistics));
    pass.push(std::move(parts.attended));
    if (cross_attention_) pass.push(std::move(parts.middle));
    pass.push(std::move(parts.crossed));
    pass.push(std::move(parts.mlp_statistics));
    pass.push(std::move(parts.added));
  }
  pass.push(x);
}

ClipBlock::Parts ClipBlock::pop(nn::Pass& pass) const {
  Parts parts;
  parts.added = pass.pop();
  parts.mlp_statistics = pass.pop();
  parts.crossed = pass.pop();
  parts.middle = cross_attention_ ? pass.pop() : parts.crossed;
  parts.attended = pass.pop();
  parts.statistics = pass.pop();
  return parts;
}

void ClipBlock::backward(const Tensor& d, const nn::ClipRows& rows,
                         const ClipConditions& conditions, const ClipBlockMemory& memory,
                         nn::Pass& pass) const {
  const Tensor x = pass.pop();
  const nn::Modulation::Vectors vectors = modulation_.of(conditions.blocks, rows, pass);
  const bool kept = !memory.keeps_input_alone;
  Parts parts =
      kept ? pop(pass) : attend(x, vectors, conditions, /*keeps=*/true, /*again=*/true, pass);
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
  modulation_.norm(branch, parts.statistics, x, vectors, 0, pass);
  const Tensor dqkv = attention_.backward_to_qkv(gradient, branch, pass);
  attention_.backward_to_input(gradient, dqkv, branch, pass);
  modulation_.norm_backward(d, gradient, d, parts.statistics, x, vectors, 0, pass);
  modulation_.backward(conditions.blocks_gradient, vectors, pass);
}

}  // namespace longspan::model
