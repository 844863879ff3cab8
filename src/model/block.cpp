#include "model/block.h"

#include <utility>

namespace longspan::model {

using backend::Tensor;

namespace {

/// The same projections, of one block.
nn::AttentionProjections of_block(nn::AttentionProjections projections, const std::string& prefix,
                                  const nn::MatrixMethods& methods) {
  projections.qkv_options.methods = methods;
  projections.output_options.methods = methods;
  for (std::string& name : projections.qkv) name.insert(0, prefix);
  projections.output.insert(0, prefix);
  for (std::string* norm :
       {&projections.query_norm, &projections.key_norm, &projections.output_norm}) {
    if (!norm->empty()) norm->insert(0, prefix);
  }
  return projections;
}

nn::MlpProjections of_block(nn::MlpProjections projections, const std::string& prefix,
                            const nn::MatrixMethods& methods) {
  projections.up_options.methods = methods;
  projections.down_options.methods = methods;
  for (std::string& name : projections.up) name.insert(0, prefix);
  projections.down.insert(0, prefix);
  if (!projections.output_norm.empty()) projections.output_norm.insert(0, prefix);
  return projections;
}

nn::AttentionKeep keep_of(Checkpointing level) {
  switch (level) {
    case Checkpointing::kNone:
      return nn::AttentionKeep::kAll;
    case Checkpointing::kBlockKeepAttention:
      return nn::AttentionKeep::kOutput;
    case Checkpointing::kBlock:
      break;
  }
  return nn::AttentionKeep::kNothing;
}

}  // namespace

Block::Block(nn::ParameterSet& parameters, const std::string& prefix, const ModelConfig& config,
             const Composition& composition, const nn::AttentionKind& kind,
             const nn::MatrixMethods& methods)
    : attention_norm_(
          make_norm(parameters, composition, prefix + composition.norms.attention, config)),
      attention_(parameters, of_block(composition.attention, prefix, methods),
                 {.hidden = config.hidden_size,
                  .heads = config.num_attention_heads,
                  .kv_heads = config.num_key_value_heads,
                  .head_dim = config.head_dim},
                 kind),
      mlp_norm_(make_norm(parameters, composition, prefix + composition.norms.mlp, config)),
      mlp_(parameters, of_block(composition.mlp, prefix, methods), composition.activation,
           config.hidden_size, config.intermediate_size) {}

void Block::forward(const Tensor& out, const Tensor& x, nn::Pass& pass, const BlockMemory& memory,
                    const nn::AttentionCache* cache) const {
  const bool keeps = memory.checkpointing == Checkpointing::kNone;
  const nn::SaveParts& middle = memory.slots[Slot::kBlockMiddle];
  pass.start_block();
  const auto statistics_of = [&](const nn::Norm& norm) {
    const backend::Shape shape = norm.statistics(x.size(0));
    return keeps ? pass.saved_statistics(shape) : pass.workspace_statistics(shape);
  };
  // Every stage works in the buffer of its result.
  Tensor mid = keeps ? pass.saved(x.shape()) : pass.workspace(x.shape());
  Tensor attention_statistics = statistics_of(*attention_norm_);
  {
    const backend::Scope scope(pass.backend(), "attention");
    attention_norm_->forward(mid, attention_statistics, x, pass);
    attention_.forward(mid, mid, pass, cache, keep_of(memory.checkpointing),
                       {.qkv = memory.slots[Slot::kAttentionQkv],
                        .output = memory.slots[Slot::kAttentionOutput],
                        .projected = middle});
  }
  Tensor mlp_statistics = statistics_of(*mlp_norm_);
  {
    const backend::Scope scope(pass.backend(), "mlp");
    mlp_norm_->add_forward(out, mlp_statistics, mid, mid, x, pass);
    mlp_.forward(out, out, pass, memory.mlp,
                 {.up = memory.slots[Slot::kMlpUp], .projected = middle});
    pass.backend().add(out, out, mid);
  }
  if (keeps) {
    pass.push(std::move(attention_statistics));
    pass.push(std::move(mlp_statistics));
    pass.push(std::move(mid), middle, {nn::SlotKind::kBlockMiddle, x.size(1)});
  }
  pass.push(x, memory.slots[Slot::kBlockInput], {nn::SlotKind::kBlockInput, x.size(1)});
}

/// The forward once more, as far as the MLP's norm, which adds x to `mid`; the attention's slots
/// are on the pass again.
Block::Middle Block::attend_again(const Tensor& x, nn::Pass& pass, Checkpointing level) const {
  const backend::Scope scope(pass.backend(), "attention again");
  Middle middle{pass.saved(x.shape()),
                pass.saved_statistics(attention_norm_->statistics(x.size(0))),
                pass.saved_statistics(mlp_norm_->statistics(x.size(0)))};
  attention_norm_->forward(middle.mid, middle.attention_statistics, x, pass);
  attention_.again(middle.mid, middle.mid, pass, keep_of(level));
  return middle;
}

/// The same, as a forward that kept everything left it.
Block::Middle Block::take_middle(nn::Pass& pass) {
  Middle middle;
  middle.mid = pass.pop();
  middle.mlp_statistics = pass.pop();
  middle.attention_statistics = pass.pop();
  return middle;
}

void Block::backward(const Tensor& d, nn::Pass& pass, const BlockMemory& memory) const {
  const bool kept = memory.checkpointing == Checkpointing::kNone;
  const Tensor x = pass.pop();
  Middle middle = kept ? take_middle(pass) : attend_again(x, pass, memory.checkpointing);
  {
    const backend::Scope scope(pass.backend(), "mlp");
    const Tensor branch = pass.workspace(x.shape());  // the norm's output, then its gradient
    if (!kept) {
      mlp_norm_->add_forward(branch, middle.mlp_statistics, middle.mid, middle.mid, x, pass);
    } else if (mlp_.needs_input(memory.mlp, memory.slots[Slot::kMlpUp])) {
      mlp_norm_->again(branch, middle.mlp_statistics, middle.mid, pass);
    }
    mlp_.backward(branch, d, branch, pass, memory.mlp);
    mlp_norm_->backward(d, branch, d, middle.mlp_statistics, middle.mid, pass);
    middle.mid = {};
  }
  const backend::Scope scope(pass.backend(), "attention");
  const auto input = [&](bool is_read) {
    const Tensor normed = pass.workspace(x.shape());
    if (is_read) attention_norm_->again(normed, middle.attention_statistics, x, pass);
    return normed;
  };
  // No earlier than it is read: the attention's backward is where a block takes most.
  const bool is_early = memory.slots[Slot::kAttentionQkv].recomputes();
  Tensor branch = is_early ? input(true) : Tensor();
  Tensor dqkv = attention_.backward_to_qkv(d, branch, pass);
  if (!is_early) branch = input(attention_.needs_input());
  attention_.backward_to_input(branch, dqkv, branch, pass);
  dqkv = {};
  attention_norm_->backward(d, branch, d, middle.attention_statistics, x, pass);
}

}  // namespace longspan::model
