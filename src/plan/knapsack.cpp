#include "plan/knapsack.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>

namespace longspan::plan {
namespace {

/// Sums of floats are a little off; a bound must not be.
constexpr double kRoundingOfFloats = 1e-5;
/// Sizes that are whole numbers of cells but for rounding.
constexpr double kRoundingOfSizes = 1e-9;

}  // namespace

double fractional_bound(const std::vector<Choice>& choices) {
  std::vector<std::pair<double, double>> dearest;  // worth of a unit of size, and size
  double worth = 0;
  for (const Choice& choice : choices) {
    if (choice.worth <= 0 || choice.size > 1 + kRoundingOfSizes) continue;
    if (choice.size <= 0) {
      worth += choice.count * choice.worth;
    } else {
      dearest.emplace_back(choice.worth / choice.size, choice.count * choice.size);
    }
  }
  std::sort(dearest.begin(), dearest.end(), std::greater<>());
  double room = 1 + kRoundingOfSizes;
  for (const auto& [density, size] : dearest) {
    worth += density * std::min(size, room);
    room -= size;
    if (room <= 0) break;
  }
  return worth;
}

void Knapsack::make_bundles(const std::vector<Choice>& choices, bool round_up) {
  bundles_.clear();
  for (std::size_t number = 0; number < choices.size(); ++number) {
    const Choice& choice = choices[number];
    if (choice.worth <= 0 || choice.size > 1 + kRoundingOfSizes) continue;
    int left = choice.count;
    while (left > 1 && left * choice.size > 1 + kRoundingOfSizes) --left;
    for (int copies = 1; left > 0; copies *= 2) {
      const int some = std::min(copies, left);
      left -= some;
      const double size = std::min(1.0, some * choice.size) * cells_;
      const double cells =
          round_up ? std::ceil(size - kRoundingOfSizes) : std::floor(size + kRoundingOfSizes);
      bundles_.push_back({static_cast<int>(number), some, static_cast<int>(cells),
                          static_cast<float>(some * choice.worth)});
    }
  }
}

void Knapsack::start() {
  best_.assign(static_cast<std::size_t>(cells_) + 1, 0.0F);
  next_ = best_;
}

void Knapsack::improve(const Bundle& bundle) {
  const auto cells = static_cast<std::size_t>(bundle.cells);
  const std::size_t all = best_.size();
  std::copy(best_.begin(), best_.begin() + static_cast<std::ptrdiff_t>(cells), next_.begin());
  const float* const without = best_.data() + cells;
  const float* const before = best_.data();
  float* const out = next_.data() + cells;
  const float worth = bundle.worth;
  for (std::size_t cell = 0; cell < all - cells; ++cell) {
    out[cell] = std::max(without[cell], before[cell] + worth);
  }
}

const std::vector<int>& Knapsack::fill(const std::vector<Choice>& choices) {
  make_bundles(choices, true);
  start();
  const std::size_t all = best_.size();
  taken_.resize(bundles_.size() * all);
  for (std::size_t number = 0; number < bundles_.size(); ++number) {
    improve(bundles_[number]);
    std::uint8_t* const taken = taken_.data() + number * all;
    for (std::size_t cell = 0; cell < all; ++cell) {
      taken[cell] = static_cast<std::uint8_t>(next_[cell] > best_[cell]);
    }
    best_.swap(next_);
  }
  counts_.assign(choices.size(), 0);
  std::size_t cell = all - 1;
  for (std::size_t number = bundles_.size(); number-- > 0;) {
    if (taken_[number * all + cell] == 0) continue;
    counts_[static_cast<std::size_t>(bundles_[number].choice)] += bundles_[number].copies;
    cell -= static_cast<std::size_t>(bundles_[number].cells);
  }
  return counts_;
}

double Knapsack::bound(const std::vector<Choice>& choices) {
  make_bundles(choices, false);
  start();
  for (const Bundle& bundle : bundles_) {
    improve(bundle);
    best_.swap(next_);
  }
  return static_cast<double>(best_.back()) * (1 + kRoundingOfFloats);
}

}  // namespace longspan::plan
