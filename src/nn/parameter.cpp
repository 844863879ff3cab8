#include "longspan/nn/parameter.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>
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

Index gradient_end_of(const Parameter& parameter) {
  return parameter.gradient_offset + parameter.gradient_shape().elements();
}

/// The matrix or vector that parameters [first, last] make.
Tensor as_one(const Tensor& elements, const Shape& first) {
  if (first.rank() == 1) return elements;
  return elements.reshape({elements.size(0) / first[1], first[1]});
}

}  // namespace

Shape Parameter::gradient_shape() const {
  return compression == 1 ? shape : Shape{shape[0], shape[1] / compression};
}

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
  parameter.joins = join;
  elements_ = end_of(parameter);
  parameters_.push_back(std::move(parameter));
  units_.back().end = static_cast<int>(parameters_.size());
  return units_.back().end - 1;
}

void ParameterSet::begin_uniform(int number, double bound) {
  parameters_[static_cast<std::size_t>(number)].initial_bound = bound;
}

void ParameterSet::compress(int number, int direction) {
  Parameter& parameter = parameters_[static_cast<std::size_t>(number)];
  const Index length = directions_.length(direction);
  if (partition_ || parameter.shape.rank() != 2 || parameter.shape[1] % length != 0) {
    throw base::InternalError("the gradient of " + parameter.name + " " +
                              parameter.shape.to_string() + " cannot be compressed by " +
                              std::to_string(length));
  }
  parameter.compression = length;
  parameter.direction = direction;
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
  partition_.emplace(std::move(begins), splits_updates() ? ranks_->size() : 1,
                     splits_updates() ? ranks_->rank() : 0, cuts(placement.cut));
  place_gradients();
  place_packed(dtype);
  if (packs() && placement.trains) throw base::InternalError("packed weights cannot be trained");
  find_own_ranges();

  const bool is_double = dtype == base::DType::kFloat64;
  const base::DType wide = is_double ? dtype : base::DType::kFloat32;
  const auto allocated = [&](const shard::Partition& axis, bool is_split, base::DType of,
                             MemoryTag tag) {
    Tensor all = backend.allocate({is_split ? axis.own_elements() : axis.elements()}, of, tag);
    backend.zero(all);
    return all;
  };
  weights_ = allocated(stored_partition(), splits_weights(), packs() ? base::DType::kUInt8 : dtype,
                       MemoryTag::kWeights);
  directions_.allocate(backend, wide);
  row_sampling_.allocate(backend);
  if (placement.trains && placement.has_gradients) {
    gradients_ = allocated(*gradient_partition_, splits_gradients(), wide, MemoryTag::kGradients);
  }
  unset_.assign(parameters_.size(), false);
  place_units();
}

/// Where a parameter may be cut: between optimizers' blocks, and where its gradient may be, too.
std::vector<shard::Partition::Cut> ParameterSet::cuts(Index each) const {
  std::vector<shard::Partition::Cut> cuts;
  bool is_anywhere = true;
  for (const Parameter& parameter : parameters_) {
    const Index length = parameter.is_packed ? Packing::kCut : parameter.compression;
    const Index whole = length == 1 ? each : std::lcm(std::lcm(each, length), kAlignment);
    cuts.push_back({parameter.offset, whole});
    is_anywhere = is_anywhere && whole == 1;
  }
  if (is_anywhere) cuts.clear();
  return cuts;
}

/// Gives gradients their places, as `declare` gives parameters theirs.
void ParameterSet::place_gradients() {
  Index end = 0;
  for (int unit = 0; unit < partition_->units(); ++unit) {
    unit_at(unit).gradient_begin = aligned(end);
    for (int number = unit_at(unit).first; number < unit_at(unit).end; ++number) {
      Parameter& parameter = parameters_[static_cast<std::size_t>(number)];
      parameter.gradient_offset = parameter.joins ? end : aligned(end);
      end = gradient_end_of(parameter);
    }
  }
  gradient_partition_ =
      partition_->image([this](Index element) { return gradient_place(element); });
}

/// Where on the gradients' axis an element is, or the gap that it is in.
Index ParameterSet::gradient_place(Index element) const {
  const auto after =
      std::upper_bound(parameters_.begin(), parameters_.end(), element,
                       [](Index at, const Parameter& parameter) { return at < parameter.offset; });
  if (after == parameters_.begin()) return element;
  const Parameter& parameter = *std::prev(after);
  if (element < end_of(parameter)) {
    return parameter.gradient_offset + (element - parameter.offset) / parameter.compression;
  }
  const Index place = gradient_end_of(parameter) + (element - end_of(parameter));
  const bool is_last = after == parameters_.end();
  const bool ends_unit = !is_last && after->unit != parameter.unit;
  if (is_last) return place;
  const Unit& next = unit_at(after->unit);
  if (ends_unit && element >= next.begin) return next.gradient_begin + (element - next.begin);
  return std::min(place, ends_unit ? next.gradient_begin : after->gradient_offset);
}

void ParameterSet::find_own_ranges() {
  for (int number = 0; number < static_cast<int>(parameters_.size()); ++number) {
    const Parameter& parameter = at(number);
    const Range part = piece(number, partition_->rank());
    if (part.size() == 0) continue;
    const Index each = parameter.compression;
    const Range gradient{part.begin / each, part.end / each};
    const auto stored = [&](const shard::Partition& axis, Index first) {
      return axis.stored(parameter.unit).begin + first - axis.own(parameter.unit).begin;
    };
    own_ranges_.push_back(
        {number, part, stored(*partition_, parameter.offset + part.begin), gradient,
         stored(*gradient_partition_, parameter.gradient_offset + gradient.begin)});
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
    const auto of_unit = [&](const Tensor& all, const Range& range) {
      return all.rows(range.begin, range.end);
    };
    if (!splits_weights() && !packs()) {
      unit_at(number).weights = of_unit(weights_, partition_->unit(number));
    }
    if (gradients_.defined() && !splits_gradients()) {
      unit_at(number).gradients = of_unit(gradients_, gradient_partition_->unit(number));
    }
  }
}

/// Parameters first..first+count-1, which lie without a gap, as a vector.
Tensor ParameterSet::weights_of(int first, int count) const {
  const Parameter& head = at(first);
  const Unit& unit = unit_at(head.unit);
  if (!unit.weights.defined()) {
    throw base::InternalError(fmt::format(
        "the weights of {} are asked for, but unit {} is not open", head.name, head.unit));
  }
  return unit.weights.rows(head.offset - unit.begin, end_of(at(first + count - 1)) - unit.begin);
}

Tensor ParameterSet::gradients_of(int first, int count) const {
  const Parameter& head = at(first);
  const Unit& unit = unit_at(head.unit);
  if (!unit.gradients.defined()) {
    throw base::InternalError(fmt::format(
        "the gradients of {} are asked for, but unit {} is not open", head.name, head.unit));
  }
  return unit.gradients.rows(head.gradient_offset - unit.gradient_begin,
                             gradient_end_of(at(first + count - 1)) - unit.gradient_begin);
}

void ParameterSet::check_joined(int first, int count) const {
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
}

Tensor ParameterSet::weight(int number) const {
  return weights_of(number, 1).reshape(at(number).shape);
}

Tensor ParameterSet::gradient(int number) const {
  return gradients_of(number, 1).reshape(at(number).gradient_shape());
}

Tensor ParameterSet::joined_weight(int first, int count) const {
  check_joined(first, count);
  return as_one(weights_of(first, count), at(first).shape);
}

Tensor ParameterSet::joined_gradient(int first, int count) const {
  check_joined(first, count);
  for (int number = first; number < first + count; ++number) {
    if (at(number).compression == at(first).compression) continue;
    throw base::InternalError("gradients of " + at(first).name + " and " + at(number).name +
                              " are not compressed alike");
  }
  return as_one(gradients_of(first, count), at(first).gradient_shape());
}

/// This rank's own piece of the gradients of a unit that is whole.
Tensor ParameterSet::own_gradients(const Tensor& of_unit, int unit) const {
  const Range own = gradient_partition_->own(unit);
  const Index begin = unit_at(unit).gradient_begin;
  return of_unit.rows(own.begin - begin, own.end - begin);
}

/// The same within what is kept.
Tensor ParameterSet::kept_gradients(int unit) const {
  const Range piece =
      splits_gradients() ? gradient_partition_->stored(unit) : gradient_partition_->own(unit);
  return gradients_.rows(piece.begin, piece.end);
}

Tensor ParameterSet::own_weight(const OwnRange& range) const {
  if (packs()) throw base::InternalError("a rank's own weights are packed: they cannot be viewed");
  const Index begin =
      splits_weights() ? range.stored : at(range.number).offset + range.elements.begin;
  return weights_.rows(begin, begin + range.elements.size());
}

Tensor ParameterSet::own_gradient(const OwnRange& range) const {
  const Index begin = splits_gradients() ? range.gradient_stored
                                         : at(range.number).gradient_offset + range.gradient.begin;
  return gradients_.rows(begin, begin + range.gradient.size());
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
  if (packs()) {
    return write_packed(
        [&](int number, Index first, const Tensor& out) { write(number, out, first); });
  }
  if (splits_weights()) {
    for (const OwnRange& own : own_ranges_) write(own.number, own_weight(own), own.elements.begin);
    return;
  }
  for (int number = 0; number < static_cast<int>(parameters_.size()); ++number) {
    write(number, weight(number), 0);
  }
}

}  // namespace longspan::nn
