#pragma once

#include <cstdint>
#include <vector>

namespace longspan::plan {

/// A thing that may be taken up to `count` times, of a size relative to the room that there is.
struct Choice {
  double size = 0;  ///< (0, 1]
  double worth = 0;
  int count = 1;
};

/// No filling is worth more, were fractions allowed.
double fractional_bound(const std::vector<Choice>& choices);

/// The knapsack on a grid: sizes are rounded, so a result is either one that fits or a bound.
/// Not thread-safe: keeps its tables.
class Knapsack {
 public:
  explicit Knapsack(int cells) : cells_(cells) {}

  /// How often each choice is taken, at most, in a filling that fits: sizes are rounded up.
  const std::vector<int>& fill(const std::vector<Choice>& choices);
  /// No filling is worth more: sizes are rounded down.
  double bound(const std::vector<Choice>& choices);

 private:
  /// Some copies of a choice, taken together or not at all.
  struct Bundle {
    int choice = 0;
    int copies = 1;
    int cells = 0;
    float worth = 0;
  };
  void make_bundles(const std::vector<Choice>& choices, bool round_up);
  void improve(const Bundle& bundle, const float* before, float* after) const;

  int cells_;
  std::vector<Bundle> bundles_;
  std::vector<float> best_;  ///< worth within so many cells: with no bundle, one, two, ...
  std::vector<int> counts_;
};

}  // namespace longspan::plan
