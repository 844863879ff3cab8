#include "longspan/nn/linear.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

Linear::Linear(ParameterSet& parameters, const std::vector<Part>& parts, Index inputs)
    : parameters_(&parameters), inputs_(inputs), count_(static_cast<int>(parts.size())) {
  for (const Part& part : parts) {
    const bool continues = outputs_ > 0;
    const int number = parameters.declare(part.name, {part.outputs, inputs}, ParameterKind::kMatrix,
                                          /*join=*/continues);
    if (!continues) first_ = number;
    outputs_ += part.outputs;
  }
}

void Linear::forward(const Tensor& out, const Tensor& x, Pass& pass) const {
  pass.backend().matmul(out, x, parameters_->joined_weight(first_, count_), {.transpose_b = true});
}

void Linear::backward(const Tensor& dx, const Tensor& dy, const Tensor& x, Pass& pass) const {
  backward_weight(dy, x, pass);  // first: it reads x, which dx may overwrite
  backward_input(dx, dy, pass);
}

void Linear::backward_weight(const Tensor& dy, const Tensor& x, Pass& pass) const {
  const bool accumulate = !parameters_->claim_gradient(first_, count_);
  pass.backend().matmul(parameters_->joined_gradient(first_, count_), dy, x,
                        {.transpose_a = true, .accumulate = accumulate});
}

void Linear::backward_input(const Tensor& dx, const Tensor& dy, Pass& pass) const {
  pass.backend().matmul(dx, dy, parameters_->joined_weight(first_, count_), {});
}

}  // namespace longspan::nn
