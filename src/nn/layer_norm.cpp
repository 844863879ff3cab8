#include "longspan/nn/layer_norm.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

namespace {

Tensor mean_of(const Tensor& statistics) {
  return statistics.rows(0, 1).reshape({statistics.size(1)});
}

Tensor rstd_of(const Tensor& statistics) {
  return statistics.rows(1, 2).reshape({statistics.size(1)});
}

}  // namespace

LayerNorm::LayerNorm(ParameterSet& parameters, const std::string& name, Index hidden,
                     double epsilon)
    : parameters_(&parameters),
      weight_(parameters.declare(name + ".weight", {hidden}, ParameterKind::kNorm)),
      bias_(parameters.declare(name + ".bias", {hidden}, ParameterKind::kBias)),
      epsilon_(static_cast<float>(epsilon)) {}

void LayerNorm::forward(const Tensor& out, const Tensor& statistics, const Tensor& x,
                        Pass& pass) const {
  pass.backend().layer_norm_forward(out, mean_of(statistics), rstd_of(statistics), x,
                                    parameters_->weight(weight_), parameters_->weight(bias_),
                                    epsilon_);
}

void LayerNorm::add_forward(const Tensor& out, const Tensor& statistics, const Tensor& sum,
                            const Tensor& a, const Tensor& b, Pass& pass) const {
  pass.backend().add_layer_norm_forward(out, mean_of(statistics), rstd_of(statistics), sum, a, b,
                                        parameters_->weight(weight_), parameters_->weight(bias_),
                                        epsilon_);
}

void LayerNorm::again(const Tensor& out, const Tensor& statistics, const Tensor& x,
                      Pass& pass) const {
  forward(out, statistics, x, pass);
}

void LayerNorm::backward(const Tensor& dx, const Tensor& dy, const Tensor& residual,
                         const Tensor& statistics, const Tensor& x, Pass& pass) const {
  const bool trains = parameters_->trains();
  pass.backend().layer_norm_backward(dx, trains ? parameters_->gradient(weight_) : Tensor(),
                                     trains ? parameters_->gradient(bias_) : Tensor(), dy, residual,
                                     mean_of(statistics), rstd_of(statistics), x,
                                     parameters_->weight(weight_));
}

}  // namespace longspan::nn
