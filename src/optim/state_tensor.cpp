#include "longspan/optim/state_tensor.h"

#include "longspan/base/error.h"

namespace longspan::optim {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;

namespace {

Index up(Index elements, Index each) { return (elements + each - 1) / each; }

}  // namespace

shard::Range StateTensor::part(const nn::ParameterSet& parameters, int rank) const {
  if (!is_split) return {0, shape.elements()};
  const shard::Range own = parameters.piece(parameter, rank);
  return {up(own.begin, elements_each), up(own.end, elements_each)};
}

OwnState::OwnState(const nn::ParameterSet& parameters, backend::Backend& where, base::DType dtype,
                   Index elements_each, const Concerns& concerns)
    : parameters_(&parameters),
      where_(&where),
      begins_(parameters.parameters().size(), kNone),
      elements_each_(elements_each),
      concerns_(concerns) {
  constexpr Index kAlignment = nn::ParameterSet::kAlignment;
  Index end = 0;
  for (const nn::OwnRange& range : parameters.own_ranges()) {
    if (concerns != nullptr && !concerns(parameters.at(range.number))) continue;
    const Index stands_for = each(parameters.at(range.number));
    if (range.elements.begin % stands_for != 0) {
      throw base::InternalError(parameters.at(range.number).name +
                                " is cut where a block of its optimizer state is not");
    }
    // As far behind a whole vector as weights and gradients are, so that kernels can take all of
    // them in whole vectors.
    const Index shift = stands_for == 1 ? range.stored % kAlignment : 0;
    const Index begin = up(end, kAlignment) * kAlignment + shift;
    begins_[static_cast<std::size_t>(range.number)] = begin;
    end = begin + up(range.elements.size(), stands_for);
  }
  storage_ = where.allocate({end}, dtype, MemoryTag::kOptimizer);
  where.zero(storage_);
}

/// How many of its elements one of the state's stands for.
Index OwnState::each(const nn::Parameter& parameter) const {
  return elements_each_ == kLikeGradients ? parameter.compression : elements_each_;
}

Tensor OwnState::of(const nn::OwnRange& range, Index begin, Index end) const {
  const Index first = begins_[static_cast<std::size_t>(range.number)];
  if (first == kNone) {
    throw base::InternalError(parameters_->at(range.number).name + " has no such optimizer state");
  }
  const Index stands_for = each(parameters_->at(range.number));
  return storage_.rows(first + begin / stands_for, first + up(end, stands_for));
}

void OwnState::append_to(std::vector<StateTensor>& states, const std::string& prefix) const {
  auto range = parameters_->own_ranges().begin();
  const auto last = parameters_->own_ranges().end();
  for (int number = 0; number < static_cast<int>(parameters_->parameters().size()); ++number) {
    const nn::Parameter& parameter = parameters_->at(number);
    while (range != last && range->number < number) ++range;
    if (concerns_ != nullptr && !concerns_(parameter)) continue;
    StateTensor state;
    state.name = prefix + parameter.name;
    state.parameter = number;
    const Index stands_for = each(parameter);
    state.shape = elements_each_ == kLikeGradients ? parameter.gradient_shape()
                  : stands_for == 1                ? parameter.shape
                                    : backend::Shape{up(parameter.shape.elements(), stands_for)};
    const bool is_there = range != last && range->number == number;
    state.held = is_there ? of(*range) : storage_.rows(0, 0);
    state.where = where_;
    state.elements_each = stands_for;
    states.push_back(std::move(state));
  }
}

}  // namespace longspan::optim
