#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "plan/knapsack.h"
#include "plan/packing.h"
#include "plan/prices.h"

namespace longspan::plan {

/// The linear program of what whole groups can hold (Gilmore and Gomory 1961, of bins of several
/// kinds): how many ranks, at least, run all sequences within a time. Sequences of about the same
/// length are taken together, as if all were as short as the shortest.
class PatternProgram {
 public:
  explicit PatternProgram(const Problem& problem);

  struct Answer {
    bool is_impossible = false;  ///< no packing takes so little: proven
    Prices prices;               ///< a proof, or the best of those that are none
  };
  /// Looks for a proof that all sequences cannot be run within `seconds`; stops where there is
  /// none, or none was found in a number of rounds.
  Answer prove(double seconds);

 private:
  /// Sequences [begin, end), of which the last is the shortest.
  struct Row {
    int begin = 0;
    int end = 0;
    int count() const { return end - begin; }
    int item() const { return end - 1; }
  };
  /// What a group may hold: rows and how often.
  struct Pattern {
    int kind = 0;
    double seconds = 0;  ///< the fixed ones included
    std::vector<std::pair<int, int>> rows;
  };
  class Model;

  void make_rows();
  void add_pattern(Pattern pattern);
  void add_first_patterns();
  /// Relative to a kind's room: of what binds more for a filling that fits, of a fixed mixture of
  /// both for a bound.
  void set_choices(int kind, double seconds, const std::vector<double>& prices, bool is_bound);
  double time_share(int kind, double seconds) const;
  bool add_better_patterns(double seconds, const std::vector<double>& prices, double& overprice);
  double true_overprice(double seconds, const std::vector<double>& prices);
  Prices prices_of(const std::vector<double>& rows, double overprice) const;

  const Problem& problem_;
  std::vector<Row> rows_;
  std::vector<Pattern> patterns_;
  Knapsack knapsack_;
  std::vector<Choice> choices_;
};

}  // namespace longspan::plan
