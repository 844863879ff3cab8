// How units of a ParameterSet come and go, and what ranks tell each other about them.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/nn/parameter.h"

namespace longspan::nn {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;

/// Sends this rank's piece of a unit's weights and begins to receive the others'.
void ParameterSet::start_gathering(int number) {
  Unit& unit = unit_at(number);
  if (!splits_weights() || unit.coming.defined() || unit.weights.defined()) return;
  const shard::Partition& axis = stored_partition();
  const shard::Range whole = axis.unit(number);
  unit.coming = backend_->allocate({whole.size()}, weights_.dtype(), MemoryTag::kWeights);
  const shard::Range own = axis.own(number);
  const shard::Range stored = axis.stored(number);
  backend_->copy(unit.coming.rows(own.begin - whole.begin, own.end - whole.begin),
                 weights_.rows(stored.begin, stored.end));
  unit.gathering = ranks_->start_all_gather(unit.coming, axis.offsets(number), *backend_);
}

void ParameterSet::open(int number, Use use, int next) {
  Unit& unit = unit_at(number);
  if (std::exchange(unit.is_open, true)) {
    throw base::InternalError(fmt::format("unit {} of the parameters is opened twice", number));
  }
  unit.gets_gradients = use != Use::kWeights && trains();
  if (!splits_gradients() && !packs()) return;
  const backend::Scope scope(*backend_, "opening");
  if (use != Use::kGradients && splits_weights()) {
    start_gathering(number);
    unit.gathering->wait();
    unit.gathering.reset();
    unit.weights = std::exchange(unit.coming, {});
  }
  if (use != Use::kGradients && packs()) {
    const shard::Range bytes = stored_partition().unit(number);
    unit.weights =
        read_unit(number, splits_weights() ? unit.weights : weights_.rows(bytes.begin, bytes.end));
  }
  if (unit.gets_gradients) {
    unit.gradients = backend_->allocate({gradient_partition_->unit(number).size()},
                                        gradients_.dtype(), MemoryTag::kGradients);
    zero_gaps(unit);
    void_gradients(unit.first, unit.end);
  }
  if (next != kNoUnit) start_gathering(next);
}

void ParameterSet::close(int number, bool comes_again) {
  Unit& unit = unit_at(number);
  if (!std::exchange(unit.is_open, false)) {
    throw base::InternalError(fmt::format("unit {} of the parameters is not open", number));
  }
  if (splits_weights() || packs()) unit.weights = {};
  const bool got_gradients = std::exchange(unit.gets_gradients, false);
  const bool is_due = splits_gradients() || (overlap_ && is_last_pass_ && !comes_again);
  if (ranks_ == nullptr || !got_gradients || !is_due) return;
  const backend::Scope scope(*backend_, "reduction");
  start_reduction(number);
}

void ParameterSet::start_reduction(int number) {
  Unit& unit = unit_at(number);
  settle(unit);
  if (leaving_ != kNoUnit) finish_reduction(leaving_);
  if (splits_updates()) {
    unit.reduction =
        ranks_->start_reduce_scatter_sum(own_gradients(unit.gradients, number), unit.gradients,
                                         gradient_partition_->offsets(number), *backend_);
  } else {
    unit.reduction = ranks_->start_all_reduce_sum(unit.gradients, *backend_);
  }
  if (splits_gradients()) {
    unit.leaving = std::exchange(unit.gradients, {});
    leaving_ = number;
  }
  if (!overlap_) finish_reduction(number);
}

void ParameterSet::finish_reduction(int number) {
  Unit& unit = unit_at(number);
  if (!unit.reduction) return;
  unit.reduction->wait();
  unit.reduction.reset();
  if (!splits_gradients()) return;
  const Tensor sum = own_gradients(unit.leaving, number);
  const Tensor kept = kept_gradients(number);
  if (std::exchange(unit.kept_is_void, false)) {
    backend_->copy(kept, sum);
  } else {
    backend_->accumulate(kept, sum);
  }
  unit.leaving = {};
  leaving_ = kNoUnit;
}

void ParameterSet::start_last_pass() { is_last_pass_ = true; }

void ParameterSet::start_gradients() {
  if (splits_gradients()) {
    for (Unit& unit : units_) unit.kept_is_void = true;
  } else {
    void_gradients(0, static_cast<int>(parameters_.size()));
  }
}

/// Norms' and biases' gradients are small and added to, so they are set to 0 at once.
void ParameterSet::void_gradients(int first, int end) {
  for (int number = first; number < end; ++number) {
    const ParameterKind kind = at(number).kind;
    const bool is_small = kind == ParameterKind::kNorm || kind == ParameterKind::kBias;
    if (is_small) backend_->zero(gradient(number));
    unset_[static_cast<std::size_t>(number)] = !is_small;
  }
}

bool ParameterSet::claim_gradient(int first, int count) {
  const auto begin = unset_.begin() + first;
  const bool overwrite = *begin;
  std::fill(begin, begin + count, false);
  return overwrite;
}

void ParameterSet::settle(const Unit& unit) {
  for (int number = unit.first; number < unit.end; ++number) {
    if (claim_gradient(number, 1)) backend_->zero(gradient(number));
  }
}

void ParameterSet::settle_gradients() {
  for (int number = 0; number < partition_->units(); ++number) {
    Unit& unit = unit_at(number);
    if (!splits_gradients()) {
      settle(unit);
    } else if (std::exchange(unit.kept_is_void, false)) {
      backend_->zero(kept_gradients(number));
    }
  }
}

/// A unit that was just made has anything between its parameters and behind the last.
void ParameterSet::zero_gaps(const Unit& unit) const {
  for (int number = unit.first; number < unit.end; ++number) {
    const Index begin =
        at(number).gradient_offset + at(number).gradient_shape().elements() - unit.gradient_begin;
    const Index end = number + 1 < unit.end ? at(number + 1).gradient_offset - unit.gradient_begin
                                            : unit.gradients.elements();
    if (begin < end) backend_->zero(unit.gradients.rows(begin, end));
  }
}

void ParameterSet::reduce_gradients() {
  is_last_pass_ = false;
  if (ranks_ != nullptr) {
    for (int number = 0; number < partition_->units(); ++number) {
      const bool is_started = splits_gradients() || unit_at(number).reduction;
      if (!is_started) start_reduction(number);
    }
    for (int number = 0; number < partition_->units(); ++number) finish_reduction(number);
  }
  settle_gradients();
}

double ParameterSet::gradient_squares() const {
  if (!splits_updates()) return backend_->sum_of_squares(gradients_);
  std::vector<double> squares(1);
  for (int number = 0; number < partition_->units(); ++number) {
    squares[0] += backend_->sum_of_squares(kept_gradients(number));
  }
  ranks_->all_reduce_sum(squares);
  return squares[0];
}

std::vector<double> ParameterSet::gradient_squares_by_parameter() const {
  std::vector<double> squares(parameters_.size());
  for (const OwnRange& range : own_ranges_) {
    squares[static_cast<std::size_t>(range.number)] = backend_->sum_of_squares(own_gradient(range));
  }
  if (splits_updates()) ranks_->all_reduce_sum(squares);
  return squares;
}

double ParameterSet::compressed_gradient_squares() const {
  std::vector<double> squares(1);
  for (const OwnRange& range : own_ranges_) {
    if (at(range.number).compression == 1) continue;
    squares[0] += backend_->sum_of_squares(own_gradient(range));
  }
  if (splits_updates()) ranks_->all_reduce_sum(squares);
  return squares[0];
}

void ParameterSet::gather_weights() {
  if (!splits_updates() || splits_weights()) return;
  const backend::Scope scope(*backend_, "gathering");
  for (int number = 0; number < partition_->units(); ++number) {
    ranks_->start_all_gather(unit_at(number).weights, partition_->offsets(number), *backend_)
        ->wait();
  }
}

}  // namespace longspan::nn
