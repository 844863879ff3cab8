#include "longspan/nn/embedding.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

Embedding::Embedding(ParameterSet& parameters, const std::string& name, Index vocab, Index hidden)
    : parameters_(&parameters),
      number_(parameters.declare(name + ".weight", {vocab, hidden}, ParameterKind::kEmbedding)) {}

void Embedding::forward(const Tensor& out, const Tensor& ids, Pass& pass) const {
  pass.backend().gather_rows(out, ids, parameters_->weight(number_));
}

void Embedding::backward(const Tensor& dy, const Tensor& ids, Pass& pass) const {
  const Tensor gradient = parameters_->gradient(number_);
  if (parameters_->claim_gradient(number_, 1)) pass.backend().zero(gradient);
  pass.backend().embedding_backward(gradient, dy, ids);
}

}  // namespace longspan::nn
