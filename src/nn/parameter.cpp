#include "longspan/nn/parameter.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Index;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;
using shard::Range;

namespace {

Index aligned(Index elements) {
  return (elements + ParameterSet::kAlignment - 1) / ParameterSet::kAlignment *
         ParameterSet::kAlignment;
}

Index end_of(const Parameter& parameter) { return parameter.offset + parameter.shape.elements(); }

}  // namespace

int ParameterSet::declare(std::string name, Shape shape, ParameterKind kind, bool join,
                          double initial_scale) {
  if (partition_) {
    throw base::InternalError("parameter " + name + " declared after the set was allocated");
  }
  if (units_.empty()) begin_unit();
  Parameter parameter;
  parameter.name = std::move(name);
  parameter.shape = shape;
  parameter.kind = kind;
  parameter.initial_scale = initial_scale;
  parameter.offset = join ? elements_ : aligned(elements_);
  parameter.unit = static_cast<int>(units_.size()) - 1;
  elements_ = end_of(parameter);
  parameters_.push_back(std::move(parameter));
  units_.back().end = static_cast<int>(parameters_.size());
  return units_.back().end - 1;
}

void ParameterSet::begin_uniform(int number, double bound) {
  parameters_[static_cast<std::size_t>(number)].initial_bound = bound;
}

void ParameterSet::begin_unit() {
  Unit unit;
  unit.begin = aligned(elements_);
  unit.first = static_cast<int>(parameters_.size());
  unit.end = unit.first;
  units_.push_back(std::move(unit));
}

void ParameterSet::allocate(backend::Backend& backend, base::DType dtype,
                            const Placement& placement) {
  const bool alone = placement.ranks == nullptr || placement.ranks->size() == 1;
  backend_ = &backend;
  ranks_ = alone ? nullptr : placement.ranks;
  const bool is_shared = !alone && (placement.trains || placement.zero_stage >= 3);
  stage_ = is_shared ? placement.zero_stage : 0;
  overlap_ = placement.overlap;
  std::vector<Index> begins;
  for (const Unit& unit : units_) begins.push_back(unit.begin);
  begins.push_back(elements_);
  shard::Partition::Cuts cuts{placement.cut, {}};
  if (placement.cut > 1) {
    for (const Parameter& parameter : parameters_) cuts.begins.push_back(parameter.offset);
  }
  partition_.emplace(std::move(begins), splits_updates() ? ranks_->size() : 1,
                     splits_updates() ? ranks_->rank() : 0, std::move(cuts));
  find_own_ranges();

  const auto stored = [&](bool is_split) -> Shape {
    return {is_split ? partition_->own_elements() : elements_};
  };
  const bool is_double = dtype == base::DType::kFloat64;
  weights_ = backend.allocate(stored(splits_weights()), dtype, MemoryTag::kWeights);
  backend.zero(weights_);
  if (placement.trains && placement.has_gradients) {
    gradients_ = backend.allocate(stored(splits_gradients()),
                                  is_double ? dtype : base::DType::kFloat32, MemoryTag::kGradients);
    backend.zero(gradients_);
  }
  unset_.assign(parameters_.size(), false);
  place_units();
}

void ParameterSet::find_own_ranges() {
  for (int number = 0; number < static_cast<int>(parameters_.size()); ++number) {
    const Parameter& parameter = at(number);
    const Range part = piece(number, partition_->rank());
    if (part.size() == 0) continue;
    const Index before = parameter.offset + part.begin - partition_->own(parameter.unit).begin;
    own_ranges_.push_back({number, part, partition_->stored(parameter.unit).begin + before});
  }
}

Range ParameterSet::piece(int number, int rank) const {
  const Parameter& parameter = at(number);
  const Range of_unit = partition_->piece(parameter.unit, rank);
  const Index begin = std::clamp(of_unit.begin, parameter.offset, end_of(parameter));
  const Index end = std::clamp(of_unit.end, begin, end_of(parameter));
  return {begin - parameter.offset, end - parameter.offset};
}

/// What is whole on every rank is there all the time.
void ParameterSet::place_units() {
  for (int number = 0; number < partition_->units(); ++number) {
    const Range range = partition_->unit(number);
    if (!splits_weights()) unit_at(number).weights = weights_.rows(range.begin, range.end);
    if (gradients_.defined() && !splits_gradients()) {
      unit_at(number).gradients = gradients_.rows(range.begin, range.end);
    }
  }
}

/// Parameters first..first+count-1, which lie without a gap, as a vector.
Tensor ParameterSet::view(const Tensor& whole, int first, int count, const char* what) const {
  const Parameter& head = at(first);
  if (!whole.defined()) {
    throw base::InternalError(fmt::format("the {} of {} are asked for, but unit {} is not open",
                                          what, head.name, head.unit));
  }
  const Index begin = unit_at(head.unit).begin;
  return whole.rows(head.offset - begin, end_of(at(first + count - 1)) - begin);
}

Tensor ParameterSet::joined(const Tensor& whole, int first, int count, const char* what) const {
  const Parameter& head = at(first);
  Index end = head.offset;
  for (int number = first; number < first + count; ++number) {
    const Parameter& part = at(number);
    const bool is_alike = part.shape.rank() == head.shape.rank() &&
                          (part.shape.rank() == 1 || part.shape[1] == head.shape[1]);
    if (!is_alike || part.shape.rank() > 2 || part.offset != end) {
      throw base::InternalError("parameter " + part.name + " " + part.shape.to_string() +
                                " does not continue the matrix or vector that starts with " +
                                head.name);
    }
    end = end_of(part);
  }
  const Tensor vector = view(whole, first, count, what);
  if (head.shape.rank() == 1) return vector;
  return vector.reshape({(end - head.offset) / head.shape[1], head.shape[1]});
}

Tensor ParameterSet::weight(int number) const {
  return view(unit_at(at(number).unit).weights, number, 1, "weights").reshape(at(number).shape);
}

Tensor ParameterSet::gradient(int number) const {
  return view(unit_at(at(number).unit).gradients, number, 1, "gradients").reshape(at(number).shape);
}

Tensor ParameterSet::joined_weight(int first, int count) const {
  return joined(unit_at(at(first).unit).weights, first, count, "weights");
}

Tensor ParameterSet::joined_gradient(int first, int count) const {
  return joined(unit_at(at(first).unit).gradients, first, count, "gradients");
}

/// This rank's own piece of a unit that is whole.
Tensor ParameterSet::own_rows(const Tensor& of_unit, int unit) const {
  const Range own = partition_->own(unit);
  const Index begin = unit_at(unit).begin;
  return of_unit.rows(own.begin - begin, own.end - begin);
}

/// A unit's own piece within what is stored.
Tensor ParameterSet::piece_of(const Tensor& storage, bool is_split, int unit) const {
  const Range piece = is_split ? partition_->stored(unit) : partition_->own(unit);
  return storage.rows(piece.begin, piece.end);
}

Tensor ParameterSet::own_part(const Tensor& storage, bool is_split, const OwnRange& range) const {
  const Index begin = is_split ? range.stored : at(range.number).offset + range.elements.begin;
  return storage.rows(begin, begin + range.elements.size());
}

Tensor ParameterSet::own_weight(const OwnRange& range) const {
  return own_part(weights_, splits_weights(), range);
}

Tensor ParameterSet::own_gradient(const OwnRange& range) const {
  return own_part(gradients_, splits_gradients(), range);
}

void ParameterSet::initialise(std::uint64_t seed, double deviation) {
  const auto write = [&](int number, const Tensor& elements, Index first) {
    const Parameter& parameter = at(number);
    if (parameter.kind == ParameterKind::kNorm) {
      return backend_->fill(elements, parameter.initial_scale);
    }
    if (parameter.kind == ParameterKind::kBias) return backend_->fill(elements, 0.0);
    const double bound = parameter.initial_bound.value_or(1.0);
    if (bound == 0.0) return backend_->fill(elements, 0.0);
    const bool is_uniform = parameter.initial_bound.has_value();
    // An adapter's numbers begin at 0, too: it is not to have a base's values.
    const base::RandomStream stream(seed, base::Purpose::kInitialWeight, is_uniform ? 1 : 0,
                                    static_cast<std::uint64_t>(number));
    const auto from = static_cast<std::uint64_t>(first);
    if (is_uniform) return backend_->random_uniform(elements, stream, bound, from);
    backend_->random_normal(elements, stream, deviation * parameter.initial_scale, from);
  };
  if (splits_weights()) {
    for (const OwnRange& own : own_ranges_) write(own.number, own_weight(own), own.elements.begin);
    return;
  }
  for (int number = 0; number < static_cast<int>(parameters_.size()); ++number) {
    write(number, weight(number), 0);
  }
}

}  // namespace longspan::nn
