#include "plan/knapsack.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>

namespace longspan::plan {
namespace {

using Index = std::ptrdiff_t;

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

/// What each number of cells is worth with one more bundle.
void Knapsack::improve(const Bundle& bundle, const float* before, float* after) const {
  const Index all = cells_ + 1;
  const Index cells = bundle.cells;
  const float worth = bundle.worth;
  std::copy(before, before + cells, after);
#pragma omp simd
  for (Index cell = cells; cell < all; ++cell) {
    const float with = before[cell - cells] + worth;
    after[cell] = with > before[cell] ? with : before[cell];
  }
}

const std::vector<int>& Knapsack::fill(const std::vector<Choice>& choices) {
  make_bundles(choices, true);
  const auto all = static_cast<std::size_t>(cells_) + 1;
  best_.resize((bundles_.size() + 1) * all);
  std::fill_n(best_.begin(), all, 0.0F);
  for (std::size_t number = 0; number < bundles_.size(); ++number) {
    float* const before = best_.data() + number * all;
    improve(bundles_[number], before, before + all);
  }
  counts_.assign(choices.size(), 0);
  std::size_t cell = all - 1;
  for (std::size_t number = bundles_.size(); number-- > 0;) {
    const float* const before = best_.data() + number * all;
    if (!(before[all + cell] > before[cell])) continue;
    counts_[static_cast<std::size_t>(bundles_[number].choice)] += bundles_[number].copies;
    cell -= static_cast<std::size_t>(bundles_[number].cells);
  }
  return counts_;
}

double Knapsack::bound(const std::vector<Choice>& choices) {
  make_bundles(choices, false);
  const auto all = static_cast<std::size_t>(cells_) + 1;
  best_.resize(std::max(best_.size(), 2 * all));
  float* before = best_.data();
  float* after = before + all;
  std::fill_n(before, all, 0.0F);
  for (const Bundle& bundle : bundles_) {
    improve(bundle, before, after);
    std::swap(before, after);
  }
  return static_cast<double>(before[all - 1]) * (1 + kRoundingOfFloats);
}

}  // namespace longspan::plan
