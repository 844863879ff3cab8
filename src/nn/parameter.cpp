#include "longspan/nn/parameter.h"

#include <algorithm>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Index;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;

int ParameterSet::declare(std::string name, Shape shape, ParameterKind kind, bool join) {
  if (weights_.defined()) {
    throw base::InternalError("parameter " + name + " declared after the set was allocated");
  }
  Parameter parameter;
  parameter.name = std::move(name);
  parameter.shape = shape;
  parameter.kind = kind;
  parameter.offset = join ? elements_ : (elements_ + kAlignment - 1) / kAlignment * kAlignment;
  elements_ = parameter.offset + shape.elements();
  parameters_.push_back(std::move(parameter));
  return static_cast<int>(parameters_.size()) - 1;
}

void ParameterSet::allocate(backend::Backend& backend, base::DType dtype) {
  const bool is_double = dtype == base::DType::kFloat64;
  weights_ = backend.allocate({elements_}, dtype, MemoryTag::kWeights);
  gradients_ = backend.allocate({elements_}, is_double ? dtype : base::DType::kFloat32,
                                MemoryTag::kGradients);
  backend.zero(weights_);
  backend.zero(gradients_);
  unset_.assign(parameters_.size(), false);
  for (Parameter& parameter : parameters_) {
    const Index end = parameter.offset + parameter.shape.elements();
    parameter.weight = weights_.rows(parameter.offset, end).reshape(parameter.shape);
    parameter.gradient = gradients_.rows(parameter.offset, end).reshape(parameter.shape);
  }
}

void ParameterSet::start_gradients(backend::Backend& backend) {
  unset_.assign(parameters_.size(), true);
  for (std::size_t number = 0; number < parameters_.size(); ++number) {
    if (parameters_[number].kind != ParameterKind::kNorm) continue;
    backend.zero(parameters_[number].gradient);
    unset_[number] = false;
  }
}

bool ParameterSet::claim_gradient(int first, int count) {
  const auto begin = unset_.begin() + first;
  const bool overwrite = *begin;
  std::fill(begin, begin + count, false);
  return overwrite;
}

void ParameterSet::settle_gradients(backend::Backend& backend) {
  for (std::size_t number = 0; number < parameters_.size(); ++number) {
    if (unset_[number]) backend.zero(parameters_[number].gradient);
    unset_[number] = false;
  }
}

Tensor ParameterSet::joined_weight(int first, int count) const {
  return joined(weights_, first, count);
}

Tensor ParameterSet::joined_gradient(int first, int count) const {
  return joined(gradients_, first, count);
}

Tensor ParameterSet::joined(const Tensor& flat, int first, int count) const {
  const Parameter& head = at(first);
  const Index columns = head.shape[1];
  Index end = head.offset;
  for (int number = first; number < first + count; ++number) {
    const Parameter& part = at(number);
    if (part.shape.rank() != 2 || part.shape[1] != columns || part.offset != end) {
      throw base::InternalError("parameter " + part.name + " " + part.shape.to_string() +
                                " does not continue the matrix that starts with " + head.name);
    }
    end += part.shape.elements();
  }
  return flat.rows(head.offset, end).reshape({(end - head.offset) / columns, columns});
}

void ParameterSet::initialise(backend::Backend& backend, std::uint64_t seed, double deviation) {
  for (std::size_t number = 0; number < parameters_.size(); ++number) {
    const Parameter& parameter = parameters_[number];
    if (parameter.kind == ParameterKind::kNorm) {
      backend.fill(parameter.weight, 1.0);
    } else {
      const base::RandomStream stream(seed, base::Purpose::kInitialWeight, 0, number);
      backend.random_normal(parameter.weight, stream, deviation, 0);
    }
  }
}

}  // namespace longspan::nn
