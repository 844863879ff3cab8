#include "longspan/optim/block_choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "longspan/base/error.h"

namespace longspan::optim {

BlockChoice::BlockChoice(const BlockConfig& config, const std::vector<Index>& elements)
    : config_(config) {
  for (const Index size : elements) parameters_.push_back({.elements = size});
}

BlockChoice::Index BlockChoice::budget() const {
  Index all = 0;
  for (const One& one : parameters_) all += one.elements;
  return std::llround(config_.active * static_cast<double>(all));
}

BlockChoice::Index BlockChoice::most() const {
  Index most = budget();
  for (const One& one : parameters_) most = std::max(most, one.elements);
  return most;
}

bool BlockChoice::observe(double loss) {
  if (choices_ == 0) return true;
  ++since_;
  recent_ += loss;
  bool is_due = config_.interval > 0 && since_ >= config_.interval;
  if (config_.patience > 0 && since_ % config_.patience == 0) {
    const std::int64_t before = since_ - config_.patience;
    if (before > 0) {
      is_due = is_due || recent_ / static_cast<double>(config_.patience) >
                             earlier_ / static_cast<double>(before);
    }
    earlier_ += recent_;
    recent_ = 0;
  }
  return is_due;
}

/// Numbers of all parameters, the highest score first.
std::vector<std::size_t> BlockChoice::by_score(const std::vector<double>& gradient_squares) const {
  if (gradient_squares.size() != parameters_.size()) {
    throw base::InternalError("a choice of parameters needs the gradient of each");
  }
  std::vector<double> scores;
  for (std::size_t number = 0; number < parameters_.size(); ++number) {
    const double visits = choices_ == 0 ? 0.0
                                        : static_cast<double>(parameters_[number].visits) /
                                              static_cast<double>(choices_);
    scores.push_back(std::sqrt(gradient_squares[number]) / std::exp(visits));
  }
  std::vector<std::size_t> order(parameters_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return order;
}

void BlockChoice::choose(const std::vector<double>& gradient_squares, std::int64_t updates) {
  const std::vector<std::size_t> order = by_score(gradient_squares);
  Index left = budget();
  for (const std::size_t number : order) {
    One& one = parameters_[number];
    const bool is_taken = number == order.front() || one.elements <= left;
    if (is_taken) {
      left -= one.elements;
      ++one.visits;
      if (!one.is_chosen) one.begun = updates;
    }
    one.is_chosen = is_taken;
  }
  ++choices_;
  since_ = 0;
  recent_ = 0;
  earlier_ = 0;
}

std::vector<double> BlockChoice::of_parameters() const {
  std::vector<double> numbers;
  for (const One& one : parameters_) {
    numbers.push_back(one.is_chosen ? 1.0 : 0.0);
    numbers.push_back(static_cast<double>(one.visits));
    numbers.push_back(static_cast<double>(one.begun));
  }
  return numbers;
}

std::vector<double> BlockChoice::sums() const {
  return {static_cast<double>(choices_), static_cast<double>(since_), recent_, earlier_};
}

void BlockChoice::set(const std::vector<double>& of_parameters, const std::vector<double>& sums) {
  auto number = of_parameters.begin();
  for (One& one : parameters_) {
    one.is_chosen = *number++ != 0.0;
    one.visits = static_cast<std::int64_t>(*number++);
    one.begun = static_cast<std::int64_t>(*number++);
  }
  choices_ = static_cast<std::int64_t>(sums[0]);
  since_ = static_cast<std::int64_t>(sums[1]);
  recent_ = sums[2];
  earlier_ = sums[3];
}

}  // namespace longspan::optim
