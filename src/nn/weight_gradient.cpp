#include "longspan/nn/weight_gradient.h"

#include <algorithm>

#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

bool ModuleNames::contain(const std::string& module) const {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return name == kAllLinear || module == name || module.ends_with("." + name);
  });
}

WeightGradient::WeightGradient(ParameterSet& parameters, int first, const std::vector<Part>& parts,
                               Index inputs, bool inputs_first, const VeloraOptions* velora)
    : parameters_(&parameters), inputs_first_(inputs_first) {
  int number = first;
  Index begin = 0;
  for (const Part& part : parts) {
    const bool is_compressed = velora != nullptr && velora->modules.contain(part.module);
    if (is_compressed) {
      if (inputs_first || velora->groups < 1 || inputs % velora->groups != 0) {
        throw base::InternalError("the gradient of " + part.module + " cannot be compressed");
      }
      if (direction_ < 0) {
        direction_ = parameters.directions().declare(inputs / velora->groups, inputs);
      }
      groups_ = velora->groups;
      scale_ = velora->scale;
      parameters.compress(number, direction_);
    }
    if (runs_.empty() || runs_.back().is_compressed != is_compressed) {
      runs_.push_back({number, 0, begin, begin, is_compressed});
    }
    ++runs_.back().count;
    begin += part.outputs;
    runs_.back().end = begin;
    ++number;
  }
}

void WeightGradient::add(const Tensor& dy, const Tensor& x, Pass& pass) const {
  const bool finds = direction_ >= 0 && parameters_->directions().is_finding();
  if (finds) parameters_->directions().add(direction_, x);
  const Tensor z = direction_ >= 0 && !finds ? projected(x, pass) : Tensor();
  for (const Run& run : runs_) {
    if (run.is_compressed && finds) continue;
    const bool accumulate = !parameters_->claim_gradient(run.first, run.count);
    const Tensor gradient = parameters_->joined_gradient(run.first, run.count);
    const Tensor of_run = runs_.size() == 1 ? dy : dy.columns(run.begin, run.end);
    const Tensor& input = run.is_compressed ? z : x;
    pass.backend().matmul(gradient, inputs_first_ ? input : of_run, inputs_first_ ? of_run : input,
                          {.transpose_a = true, .accumulate = accumulate});
  }
}

Tensor WeightGradient::projected(const Tensor& x, Pass& pass) const {
  const Tensor z = pass.workspace({x.size(0), groups_});
  pass.backend().project(z, x, parameters_->directions().of(direction_), scale_);
  return z;
}

}  // namespace longspan::nn
