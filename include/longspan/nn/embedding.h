#pragma once

#include <string>

#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"

namespace longspan::nn {

/// A row of the table for each token id, scaled if so told.
class Embedding {
 public:
  /// Declares the table, `name`.weight [vocab, hidden]. `parameters` must outlive the layer. Rows
  /// are multiplied by `scale`, rounded to the dtype of activations (Gemma: sqrt(hidden)).
  Embedding(ParameterSet& parameters, const std::string& name, backend::Index vocab,
            backend::Index hidden, double scale = 1.0);

  /// ids int32 [tokens], each below vocab (the caller has checked); out [tokens, hidden].
  void forward(const backend::Tensor& out, const backend::Tensor& ids, Pass& pass) const;
  /// The table's gradient from dy [tokens, hidden], which is overwritten where rows are scaled.
  void backward(const backend::Tensor& dy, const backend::Tensor& ids, Pass& pass) const;

  /// The table's number in the set: a tied head reads the same parameter.
  int parameter() const { return number_; }

 private:
  double scaled(const Pass& pass) const;

  ParameterSet* parameters_;
  int number_;
  double scale_;
};

}  // namespace longspan::nn
