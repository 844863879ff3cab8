#pragma once

#include <optional>
#include <string>

#include "longspan/model/clip_config.h"
#include "longspan/nn/attention.h"
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

/// How a block keeps what its backward needs: all, or its input alone; and portions of its MLP,
/// which with the input alone there must be.
struct ClipBlockMemory {
  bool keeps_input_alone = false;
  nn::Mlp::Portions mlp;
};

/// x += gate * attention(norm(x)); x += cross-attention(x), where there are classes; x += gate *
/// MLP(norm(x)): norms and gates modulated clip by clip.
class ClipBlock {
 public:
  ClipBlock(nn::ParameterSet& parameters, const std::string& prefix, const ClipConfig& config,
            ClipAttention attention);

  /// out, x [tokens, hidden], not the same; x is kept on the pass. Documents of the pass are what
  /// attends to itself; `rows`: of its clips.
  void forward(const backend::Tensor& out, const backend::Tensor& x, const nn::ClipRows& rows,
               const ClipConditions& conditions, const ClipBlockMemory& memory,
               nn::Pass& pass) const;
  /// d [tokens, hidden]: the gradient of out, which becomes that of x.
  void backward(const backend::Tensor& d, const nn::ClipRows& rows,
                const ClipConditions& conditions, const ClipBlockMemory& memory,
                nn::Pass& pass) const;

 private:
  /// What lies between the block's parts.
  struct Parts {
    backend::Tensor statistics;  ///< of the first norm
    backend::Tensor attended;    ///< what attention adds, before its gate
    backend::Tensor middle;      ///< x with it
    backend::Tensor crossed;     ///< and with what the classes add: `middle` without them
    backend::Tensor mlp_statistics;
    backend::Tensor added;  ///< what the MLP adds, before its gate
  };
  Parts attend(const backend::Tensor& x, const nn::Modulation::Vectors& vectors,
               const ClipConditions& conditions, bool keeps, bool again, nn::Pass& pass) const;
  Parts pop(nn::Pass& pass) const;

  nn::Modulation modulation_;
  nn::Attention attention_;
  std::optional<nn::CrossAttention> cross_attention_;
  nn::Mlp mlp_;
};

}  // namespace longspan::model
