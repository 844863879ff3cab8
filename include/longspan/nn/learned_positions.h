#pragma once

#include <string>

#include "longspan/nn/embedding.h"

namespace longspan::nn {

/// Learned positions: a row of a table for each position within a document, added to the embedding.
class LearnedPositions {
 public:
  /// Declares `name`.weight [positions, hidden]. `parameters` must outlive the layer.
  LearnedPositions(ParameterSet& parameters, const std::string& name, backend::Index positions,
                   backend::Index hidden);

  /// x [tokens, hidden] += the rows of the pass's positions, each below the table's rows (the
  /// caller has checked).
  void forward(const backend::Tensor& x, Pass& pass) const;
  void backward(const backend::Tensor& dy, Pass& pass) const;

 private:
  Embedding table_;
};

}  // namespace longspan::nn
