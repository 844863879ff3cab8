#include "longspan/nn/rms_norm.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

RmsNorm::RmsNorm(ParameterSet& parameters, const std::string& name, Index width,
                 const backend::RmsNormOptions& options)
    : parameters_(&parameters),
      weight_(parameters.declare(name + ".weight", {width}, ParameterKind::kNorm, /*join=*/false,
                                 /*initial_scale=*/1.0 - options.weight_offset)),
      options_(options) {}

void RmsNorm::forward(const Tensor& out, const Tensor& statistics, const Tensor& x,
                      Pass& pass) const {
  pass.backend().rms_norm_forward(out, statistics, x, parameters_->weight(weight_), options_);
}

void RmsNorm::add_forward(const Tensor& out, const Tensor& statistics, const Tensor& sum,
                          const Tensor& a, const Tensor& b, Pass& pass) const {
  pass.backend().add_rms_norm_forward(out, statistics, sum, a, b, parameters_->weight(weight_),
                                      options_);
}

void RmsNorm::again(const Tensor& out, const Tensor& statistics, const Tensor& x,
                    Pass& pass) const {
  pass.backend().rms_norm_again(out, statistics, x, parameters_->weight(weight_), options_);
}

void RmsNorm::backward(const Tensor& dx, const Tensor& dy, const Tensor& residual,
                       const Tensor& statistics, const Tensor& x, Pass& pass) const {
  const Tensor dweight = parameters_->trains() ? parameters_->gradient(weight_) : Tensor();
  pass.backend().rms_norm_backward(dx, dweight, dy, residual, statistics, x,
                                   parameters_->weight(weight_), options_);
}

}  // namespace longspan::nn
