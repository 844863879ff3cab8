#include "longspan/nn/embedding.h"

#include "longspan/base/bfloat16.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

Embedding::Embedding(ParameterSet& parameters, const std::string& name, Index vocab, Index hidden,
                     double scale)
    : parameters_(&parameters),
      number_(parameters.declare(name + ".weight", {vocab, hidden}, ParameterKind::kEmbedding)),
      scale_(scale) {}

/// The scale as activations of the pass have it.
double Embedding::scaled(const Pass& pass) const {
  if (pass.dtype() != base::DType::kBFloat16) return scale_;
  return static_cast<float>(base::BFloat16(static_cast<float>(scale_)));
}

void Embedding::forward(const Tensor& out, const Tensor& ids, Pass& pass) const {
  pass.backend().gather_rows(out, ids, parameters_->weight(number_));
  if (scale_ != 1.0) pass.backend().scale(out, scaled(pass));
}

void Embedding::backward(const Tensor& dy, const Tensor& ids, Pass& pass) const {
  if (!parameters_->trains()) return;
  const Tensor gradient = parameters_->gradient(number_);
  if (parameters_->claim_gradient(number_, 1)) pass.backend().zero(gradient);
  if (scale_ != 1.0) pass.backend().scale(dy, scaled(pass));
  pass.backend().embedding_backward(gradient, dy, ids);
}

}  // namespace longspan::nn
