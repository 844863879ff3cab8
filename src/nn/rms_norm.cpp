#include "longspan/nn/rms_norm.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

RmsNorm::RmsNorm(ParameterSet& parameters, const std::string& name, Index hidden, double epsilon)
    : parameters_(&parameters),
      number_(parameters.declare(name, {hidden}, ParameterKind::kNorm)),
      epsilon_(static_cast<float>(epsilon)) {}

void RmsNorm::forward(const Tensor& out, const Tensor& rstd, const Tensor& x, Pass& pass) const {
  pass.backend().rms_norm_forward(out, rstd, x, parameters_->weight(number_), epsilon_);
}

void RmsNorm::add_forward(const Tensor& out, const Tensor& rstd, const Tensor& sum, const Tensor& a,
                          const Tensor& b, Pass& pass) const {
  pass.backend().add_rms_norm_forward(out, rstd, sum, a, b, parameters_->weight(number_), epsilon_);
}

void RmsNorm::again(const Tensor& out, const Tensor& rstd, const Tensor& x, Pass& pass) const {
  pass.backend().rms_norm_again(out, rstd, x, parameters_->weight(number_));
}

void RmsNorm::backward(const Tensor& dx, const Tensor& dy, const Tensor& residual,
                       const Tensor& rstd, const Tensor& x, Pass& pass) const {
  pass.backend().rms_norm_backward(dx, parameters_->gradient(number_), dy, residual, rstd, x,
                                   parameters_->weight(number_));
}

}  // namespace longspan::nn
