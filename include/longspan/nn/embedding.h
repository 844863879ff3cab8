#pragma once

#include <string>

#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"

namespace longspan::nn {

/// A row of the table for each token id.
class Embedding {
 public:
  /// Declares the table, `name`.weight [vocab, hidden]. `parameters` must outlive the layer.
  Embedding(ParameterSet& parameters, const std::string& name, backend::Index vocab,
            backend::Index hidden);

  /// ids int32 [tokens], each below vocab (the caller has checked); out [tokens, hidden].
  void forward(const backend::Tensor& out, const backend::Tensor& ids, Pass& pass) const;
  /// The table's gradient from dy [tokens, hidden].
  void backward(const backend::Tensor& dy, const backend::Tensor& ids, Pass& pass) const;

  /// The table's number in the set: a tied head reads the same parameter.
  int parameter() const { return number_; }

 private:
  ParameterSet* parameters_;
  int number_;
};

}  // namespace longspan::nn
