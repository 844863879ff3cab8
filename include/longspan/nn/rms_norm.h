#pragma once

#include <string>

#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"

namespace longspan::nn {

/// Root-mean-square norm of each token, scaled by a weight. Its output is cheap and large, so it
/// need not be kept: `again` makes it from x and the rstd that `forward` wrote. The caller keeps
/// both (this layer pushes no slot, because `again` comes before the backward of what follows).
class RmsNorm {
 public:
  /// Declares the weight [hidden]. `parameters` must outlive the layer.
  RmsNorm(ParameterSet& parameters, const std::string& name, backend::Index hidden, double epsilon);

  /// x, out [tokens, hidden]; out is not x; rstd [tokens], of statistics.
  void forward(const backend::Tensor& out, const backend::Tensor& rstd, const backend::Tensor& x,
               Pass& pass) const;
  /// sum = a + b, and the forward of sum; sum may be a or b.
  void add_forward(const backend::Tensor& out, const backend::Tensor& rstd,
                   const backend::Tensor& sum, const backend::Tensor& a, const backend::Tensor& b,
                   Pass& pass) const;
  /// The forward's output once more, bit for bit.
  void again(const backend::Tensor& out, const backend::Tensor& rstd, const backend::Tensor& x,
             Pass& pass) const;
  /// dx = residual + the gradient through the norm. `residual` may be undefined (nothing is
  /// added) or dx itself.
  void backward(const backend::Tensor& dx, const backend::Tensor& dy,
                const backend::Tensor& residual, const backend::Tensor& rstd,
                const backend::Tensor& x, Pass& pass) const;

 private:
  const ParameterSet* parameters_;
  int number_;
  float epsilon_;
};

}  // namespace longspan::nn
