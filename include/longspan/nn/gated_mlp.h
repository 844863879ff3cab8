#pragma once

#include <string>

#include "longspan/nn/linear.h"

namespace longspan::nn {

/// SwiGLU MLP: down(silu(gate(x)) * up(x)); gate and up are one matrix. Keeps gate_up [tokens, 2I];
/// the product is made again in the backward.
class GatedMlp {
 public:
  /// Declares `prefix`gate_proj.weight, up_proj.weight and down_proj.weight.
  GatedMlp(ParameterSet& parameters, const std::string& prefix, backend::Index hidden,
           backend::Index intermediate);

  /// x, out [tokens, hidden]; out may be x.
  void forward(const backend::Tensor& out, const backend::Tensor& x, Pass& pass) const;
  /// dx may be dy or x.
  void backward(const backend::Tensor& dx, const backend::Tensor& dy, const backend::Tensor& x,
                Pass& pass) const;

 private:
  Linear gate_up_;
  Linear down_;
};

}  // namespace longspan::nn
