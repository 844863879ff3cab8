#pragma once

#include <memory>
#include <optional>
#include <string>

#include "longspan/model/memory_policy.h"
#include "longspan/model/model_config.h"
#include "model/composition.h"

namespace longspan::model {

/// What a block keeps in a pass, and in what portions its MLP works: one layer's part of a
/// MemoryPolicy.
struct BlockMemory {
  Checkpointing checkpointing = Checkpointing::kNone;
  std::optional<nn::MiniSequence> mlp;
  SlotPolicies slots = {};
};

/// One pre-norm transformer block: mid = x + attention(norm(x)); out = mid + mlp(norm(mid)).
/// Of its own it keeps x, mid and the norms' statistics; the norms' outputs are made again in the
/// backward. A checkpointed block keeps x (and, if so told, what the attention gave), and its
/// backward first computes the block anew as far as the MLP's input: the MLP then makes again what
/// it needs itself, range by range.
class Block {
 public:
  /// Declares the parameters of block `prefix` ("model.layers.0.") in the order attention's norm,
  /// attention, MLP's norm, MLP; and its adapters, if `methods` say so.
  Block(nn::ParameterSet& parameters, const std::string& prefix, const ModelConfig& config,
        const Composition& composition, const nn::AttentionKind& kind,
        const nn::MatrixMethods& methods);

  /// x, out [tokens, hidden]; out is not x. See nn::Attention for `cache`.
  void forward(const backend::Tensor& out, const backend::Tensor& x, nn::Pass& pass,
               const BlockMemory& memory, const nn::AttentionCache* cache = nullptr) const;
  /// `d` [tokens, hidden] holds the gradient of out and is overwritten by that of x. The block
  /// kept x itself. `memory` is that of the pass's forward.
  void backward(const backend::Tensor& d, nn::Pass& pass, const BlockMemory& memory) const;

 private:
  /// What the backward needs besides x and the slots of attention and MLP.
  struct Middle {
    backend::Tensor mid;
    backend::Tensor attention_statistics;
    backend::Tensor mlp_statistics;
  };
  Middle attend_again(const backend::Tensor& x, nn::Pass& pass, Checkpointing level) const;
  static Middle take_middle(nn::Pass& pass);

  std::unique_ptr<nn::Norm> attention_norm_;
  nn::Attention attention_;
  std::unique_ptr<nn::Norm> mlp_norm_;
  nn::Mlp mlp_;
};

}  // namespace longspan::model
