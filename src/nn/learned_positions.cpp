#include "longspan/nn/learned_positions.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

LearnedPositions::LearnedPositions(ParameterSet& parameters, const std::string& name,
                                   Index positions, Index hidden)
    : table_(parameters, name, positions, hidden) {}

void LearnedPositions::forward(const Tensor& x, Pass& pass) const {
  const Tensor rows = pass.workspace(x.shape());
  table_.forward(rows, pass.positions(), pass);
  pass.backend().add(x, x, rows);
}

void LearnedPositions::backward(const Tensor& dy, Pass& pass) const {
  table_.backward(dy, pass.positions(), pass);
}

}  // namespace longspan::nn
