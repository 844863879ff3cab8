#pragma once

#include <string>
#include <vector>

#include "longspan/nn/linear.h"
#include "longspan/nn/pass.h"

namespace longspan::nn {

/// Attention of a pass's tokens to a context of their document's own: queries of x, keys and values
/// of the context, everything visible (Vaswani et al. 2017). The context is held whole by every
/// rank, whatever tokens it has: nothing is sent, and the gradients of what keys and values are
/// made of are those of the rank's own queries, to be summed with the parameters'.
class CrossAttention {
 public:
  /// Declares `name`.query.weight, `name`.key_value.weight and `name`.output.weight.
  CrossAttention(ParameterSet& parameters, const std::string& name, backend::Index hidden,
                 backend::Index heads);

  /// A context [rows, hidden], and which of its rows each document of the queries sees.
  struct Context {
    backend::Tensor rows;
    backend::CuSeqlens queries;  ///< of this rank's tokens
    backend::CuSeqlens keys;
  };

  /// out, x [tokens, hidden]; out is not x. With `keeps` what the backward needs is left on the
  /// pass.
  void forward(const backend::Tensor& out, const backend::Tensor& x, const Context& context,
               bool keeps, Pass& pass) const;
  /// After a forward that kept: dx may be dy; adds to dcontext [rows, hidden], of the dtype of
  /// statistics.
  void backward(const backend::Tensor& dx, const backend::Tensor& dcontext,
                const backend::Tensor& dy, const backend::Tensor& x, const Context& context,
                Pass& pass) const;

 private:
  struct Heads;
  Heads heads_of(const backend::Tensor& q, const backend::Tensor& kv) const;

  backend::Index hidden_;
  backend::Index heads_;
  Linear query_;
  Linear key_value_;
  Linear output_;
};

}  // namespace longspan::nn
