#pragma once

#include <vector>

#include "longspan/model/clip_config.h"
#include "longspan/nn/linear.h"
#include "longspan/nn/pass.h"

namespace longspan::model {

/// What a time of diffusion tells all blocks: t = out(silu(in(sinusoids of the time))), and of that
/// blocks = to_blocks(silu(t)) [clips, 6 * hidden]. Every rank computes it of all clips; its
/// gradients are of the rank's own tokens, and summed with the parameters'.
class ClipConditioning {
 public:
  ClipConditioning(nn::ParameterSet& parameters, const ClipConfig& config);

  /// What the backward needs comes along.
  struct Result {
    backend::Tensor sinusoids;  // [clips, kSinusoids]
    backend::Tensor inner;      // in's result
    backend::Tensor activated;  // silu of it
    backend::Tensor t;          // [clips, hidden]
    backend::Tensor told;       // silu of that
    backend::Tensor blocks;     // [clips, 6 * hidden]
  };
  /// `times`: of each clip, in [0, 1].
  Result forward(const std::vector<double>& times, nn::Pass& pass) const;
  /// `dblocks` [clips, 6 * hidden], of the pass's dtype.
  void backward(const backend::Tensor& dblocks, const Result& result, nn::Pass& pass) const;

  static constexpr backend::Index kSinusoids = 256;

 private:
  nn::Linear in_;
  nn::Linear out_;
  nn::Linear to_blocks_;
};

}  // namespace longspan::model
