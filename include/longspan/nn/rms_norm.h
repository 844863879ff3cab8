#pragma once

#include <string>

#include "longspan/nn/norm.h"
#include "longspan/nn/parameter.h"

namespace longspan::nn {

/// Root-mean-square norm, scaled by a weight (Zhang & Sennrich 2019), which begins as what changes
/// nothing. Its statistics are the rstd, [tokens]. Besides what every norm does it takes heads: x,
/// out and their gradients are then [tokens, heads, width], statistics [tokens, heads].
class RmsNorm final : public Norm {
 public:
  /// Declares `name`.weight [width]. `parameters` must outlive the layer.
  RmsNorm(ParameterSet& parameters, const std::string& name, backend::Index width,
          const backend::RmsNormOptions& options);

  backend::Shape statistics(backend::Index tokens) const override { return {tokens}; }
  void forward(const backend::Tensor& out, const backend::Tensor& statistics,
               const backend::Tensor& x, Pass& pass) const override;
  void add_forward(const backend::Tensor& out, const backend::Tensor& statistics,
                   const backend::Tensor& sum, const backend::Tensor& a, const backend::Tensor& b,
                   Pass& pass) const override;
  void again(const backend::Tensor& out, const backend::Tensor& statistics,
             const backend::Tensor& x, Pass& pass) const override;
  void backward(const backend::Tensor& dx, const backend::Tensor& dy,
                const backend::Tensor& residual, const backend::Tensor& statistics,
                const backend::Tensor& x, Pass& pass) const override;

 private:
  const ParameterSet* parameters_;
  int weight_;
  backend::RmsNormOptions options_;
};

}  // namespace longspan::nn
