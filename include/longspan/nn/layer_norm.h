#pragma once

#include <string>

#include "longspan/nn/norm.h"
#include "longspan/nn/parameter.h"

namespace longspan::nn {

/// Layer norm with weight and bias (Ba et al. 2016). Its statistics are [2, tokens]: the means,
/// then the rstd.
class LayerNorm final : public Norm {
 public:
  /// Declares `name`.weight and `name`.bias, [hidden]. `parameters` must outlive the layer.
  LayerNorm(ParameterSet& parameters, const std::string& name, backend::Index hidden,
            double epsilon);

  backend::Shape statistics(backend::Index tokens) const override { return {2, tokens}; }
  void forward(const backend::Tensor& out, const backend::Tensor& statistics,
               const backend::Tensor& x, Pass& pass) const override;
  void add_forward(const backend::Tensor& out, const backend::Tensor& statistics,
                   const backend::Tensor& sum, const backend::Tensor& a, const backend::Tensor& b,
                   Pass& pass) const override;
  /// Writes the same statistics once more, too.
  void again(const backend::Tensor& out, const backend::Tensor& statistics,
             const backend::Tensor& x, Pass& pass) const override;
  void backward(const backend::Tensor& dx, const backend::Tensor& dy,
                const backend::Tensor& residual, const backend::Tensor& statistics,
                const backend::Tensor& x, Pass& pass) const override;

 private:
  const ParameterSet* parameters_;
  int weight_;
  int bias_;
  float epsilon_;
};

}  // namespace longspan::nn
