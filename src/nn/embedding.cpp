#include "longspan/nn/embedding.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

Embedding::Embedding(ParameterSet& parameters, const std::string& name, Index vocab, Index hidden)
    : parameters_(&parameters),
      number_(parameters.declare(name, {vocab, hidden}, ParameterKind::kEmbedding)) {}

void Embedding::forward(const Tensor& out, const Tensor& ids, Pass& pass) const {
  pass.backend().embedding_forward(out, ids, parameters_->at(number_).weight);
}

void Embedding::backward(const Tensor& dy, const Tensor& ids, Pass& pass) const {
  pass.backend().embedding_backward(parameters_->at(number_).gradient, dy, ids);
}

}  // namespace longspan::nn
