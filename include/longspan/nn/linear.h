#pragma once

#include <string>
#include <vector>

#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"

namespace longspan::nn {

/// y = x W^T without bias; W [outputs, inputs]. Several matrices that read the same input may be
/// declared as one (q, k and v; gate and up): their outputs lie side by side.
class Linear {
 public:
  struct Part {
    std::string name;
    backend::Index outputs = 0;
  };

  /// Declares the parts in this order. `parameters` must outlive the layer.
  Linear(ParameterSet& parameters, const std::vector<Part>& parts, backend::Index inputs);

  /// x [tokens, inputs]; out [tokens, outputs()], not x. Keeps nothing.
  void forward(const backend::Tensor& out, const backend::Tensor& x, Pass& pass) const;
  /// dx may be x, but not dy.
  void backward(const backend::Tensor& dx, const backend::Tensor& dy, const backend::Tensor& x,
                Pass& pass) const;
  /// The two halves of `backward`, for a caller that has x only once dx is known.
  void backward_weight(const backend::Tensor& dy, const backend::Tensor& x, Pass& pass) const;
  void backward_input(const backend::Tensor& dx, const backend::Tensor& dy, Pass& pass) const;

  backend::Index inputs() const { return inputs_; }
  backend::Index outputs() const { return outputs_; }

 private:
  ParameterSet* parameters_;
  backend::Index inputs_;
  backend::Index outputs_ = 0;
  int first_ = 0;
  int count_ = 0;
};

}  // namespace longspan::nn
