#include "longspan/nn/linear.h"

#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Index;
using backend::Shape;
using backend::Tensor;

Linear::Linear(ParameterSet& parameters, const std::vector<Part>& parts, Index inputs,
               const LinearOptions& options)
    : parameters_(&parameters),
      options_(options),
      inputs_(inputs),
      count_(static_cast<int>(parts.size())) {
  if (options.inputs_first && count_ != 1) {
    throw base::InternalError("matrices stored inputs first do not lie side by side: " +
                              parts.front().name + " has others beside it");
  }
  for (const Part& part : parts) {
    const Shape shape =
        options.inputs_first ? Shape{inputs, part.outputs} : Shape{part.outputs, inputs};
    const bool continues = outputs_ > 0;
    const int number = parameters.declare(part.name + ".weight", shape, ParameterKind::kMatrix,
                                          /*join=*/continues, options.initial_scale);
    if (options.methods.packs) parameters.pack(number);
    if (!continues) first_ = number;
    outputs_ += part.outputs;
  }
  if (options.has_bias) first_bias_ = first_ + count_;
  for (const Part& part : parts) {
    if (!options.has_bias) break;
    parameters.declare(part.name + ".bias", {part.outputs}, ParameterKind::kBias,
                       /*join=*/&part != &parts.front());
  }
  std::vector<WeightGradient::Part> matrices;
  matrices.reserve(parts.size());
  for (const Part& part : parts) matrices.push_back({part.name, part.outputs});
  gradient_.emplace(parameters, first_, matrices, inputs, options.inputs_first,
                    options.methods.velora, options.methods.sampling);
  if (options.methods.adapters != nullptr) adapt(parts);
}

void Linear::adapt(const std::vector<Part>& parts) {
  std::vector<Lora::Part> adapted;
  Index first = 0;
  for (const Part& part : parts) {
    if (options_.methods.adapters->options.targets.contain(part.name)) {
      adapted.push_back({part.name, first, part.outputs});
    }
    first += part.outputs;
  }
  if (!adapted.empty()) lora_.emplace(*options_.methods.adapters, adapted, inputs_);
}

void Linear::forward(const Tensor& out, const Tensor& x, Pass& pass) const {
  pass.backend().matmul(out, x, parameters_->joined_weight(first_, count_),
                        {.transpose_b = !options_.inputs_first});
  if (options_.has_bias) {
    pass.backend().add_bias(out, parameters_->joined_weight(first_bias_, count_));
  }
  if (lora_) lora_->forward(out, x, pass);
}

void Linear::backward(const Tensor& dx, const Tensor& dy, const Tensor& x, Pass& pass) const {
  const Tensor rows = lora_ ? lora_->gradient_of_rows(dy, pass) : Tensor();
  base_backward_weight(dy, x, pass);  // first: it reads x, which dx may overwrite
  if (lora_) lora_->backward_weight(rows, dy, x, pass);
  base_backward_input(dx, dy, pass);
  if (lora_) lora_->backward_input(dx, rows, pass);
}

void Linear::backward_weight(const Tensor& dy, const Tensor& x, Pass& pass) const {
  base_backward_weight(dy, x, pass);
  if (lora_) lora_->backward_weight(lora_->gradient_of_rows(dy, pass), dy, x, pass);
}

void Linear::backward_input(const Tensor& dx, const Tensor& dy, Pass& pass) const {
  base_backward_input(dx, dy, pass);
  if (lora_) lora_->backward_input(dx, lora_->gradient_of_rows(dy, pass), pass);
}

void Linear::base_backward_weight(const Tensor& dy, const Tensor& x, Pass& pass) const {
  if (!parameters_->trains()) return;
  gradient_->add(dy, x, pass);
  if (options_.has_bias) {
    pass.backend().bias_backward(parameters_->joined_gradient(first_bias_, count_), dy);
  }
}

void Linear::base_backward_input(const Tensor& dx, const Tensor& dy, Pass& pass) const {
  pass.backend().matmul(dx, dy, parameters_->joined_weight(first_, count_),
                        {.transpose_b = options_.inputs_first});
}

}  // namespace longspan::nn
