#pragma once

#include <optional>
#include <string>

#include "longspan/model/clip_config.h"
#include "longspan/nn/attention.h"
#include "longspan/nn/axis_switch.h"
#include "longspan/nn/cross_attention.h"
#include "longspan/nn/mlp.h"
#include "longspan/nn/modulation.h"

namespace longspan::model {

/// Along which axis a block attends.
enum class ClipAttention { kSpatial, kTemporal };

/// What blocks of a pass share besides it.
struct ClipConditions {
  backend::Tensor blocks;               ///< [clips, 6 * hidden]: see nn::Modulation
  backend::Tensor blocks_gradient;      ///< of the dtype of statistics
  nn::CrossAttention::Context classes;  ///< undefined rows: none
  backend::Tensor classes_gradient;
};

/// What a block runs on: the pass of the residual stream, and that of its attention, which is
/// another one where the stream lies in the other order (shard::ClipPlacement). What attention is
/// given and gives then switches.
struct ClipBlockPasses {
  nn::Pass* residual = nullptr;
  const nn::ClipRows* rows = nullptr;  ///< of the clips, in it
  nn::Pass* attention = nullptr;
  shard::ClipOrder attends = shard::ClipOrder::kByFrame;  ///< the order of that
  const nn::AxisSwitch* axes = nullptr;

  bool switches() const { return residual != attention; }
  /// out [tokens, hidden], of the other pass than in.
  void to_attention(const backend::Tensor& out, const backend::Tensor& in) const;
  void to_residual(const backend::Tensor& out, const backend::Tensor& in) const;
};

/// How a block keeps what its backward needs: all, or its input alone; and portions of its MLP,
/// which with the input alone there must be.
struct ClipBlockMemory {
  bool keeps_input_alone = false;
  nn::Mlp::Portions mlp;
};

/// x += gate * attention(norm(x)); x += cross-attention(x), where there are classes; x += gate *
/// MLP(norm(x)): norms and gates modulated clip by clip.
///
/// Where what attention is given and gives switches, both are kept as they arrive, also with the
/// input alone: neither recomputation nor the backward sends them again.
class ClipBlock {
 public:
  ClipBlock(nn::ParameterSet& parameters, const std::string& prefix, const ClipConfig& config,
            ClipAttention attention);

  /// out, x [tokens, hidden], not the same; x is kept on the residual's pass. Documents of the
  /// attention's pass are what attends to itself.
  void forward(const backend::Tensor& out, const backend::Tensor& x,
               const ClipConditions& conditions, const ClipBlockMemory& memory,
               const ClipBlockPasses& passes) const;
  /// d [tokens, hidden]: the gradient of out, which becomes that of x.
  void backward(const backend::Tensor& d, const ClipConditions& conditions,
                const ClipBlockMemory& memory, const ClipBlockPasses& passes) const;

 private:
  /// What lies between the block's parts.
  struct Parts {
    backend::Tensor statistics;  ///< of the first norm
    backend::Tensor normed;      ///< its result as attention has it, where that switches
    backend::Tensor attended;    ///< what attention adds, before its gate
    backend::Tensor middle;      ///< x with it
    backend::Tensor crossed;     ///< and with what the classes add: `middle` without them
    backend::Tensor mlp_statistics;
    backend::Tensor added;  ///< what the MLP adds, before its gate
  };
  Parts attend(const backend::Tensor& x, const nn::Modulation::Vectors& vectors,
               const ClipConditions& conditions, bool keeps, const ClipBlockPasses& passes,
               Parts parts) const;
  void attend_to(Parts& parts, backend::Tensor normed, bool keeps,
                 const ClipBlockPasses& passes) const;
  void attention_backward(const backend::Tensor& d, const backend::Tensor& normed,
                          const ClipBlockPasses& passes) const;
  void push(Parts parts, bool keeps, const ClipBlockPasses& passes) const;
  Parts pop(bool kept, const ClipBlockPasses& passes) const;

  nn::Modulation modulation_;
  nn::Attention attention_;
  std::optional<nn::CrossAttention> cross_attention_;
  nn::Mlp mlp_;
};

}  // namespace longspan::model
