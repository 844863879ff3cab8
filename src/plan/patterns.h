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

  /// Some groups of one kind that hold the same sequences, or as many of about the same length.
  struct Share {
    int kind = 0;
    std::vector<std::pair<int, int>> rows;
    double groups = 0;  ///< a fraction, as the program has it
  };
  struct Answer {
    bool is_impossible = false;  ///< no packing takes so little: proven
    Prices prices;               ///< a proof, or the best of those that are none
    std::vector<Share> shares;   ///< what the program would run, if fractions of groups could be
  };
  /// Looks for a proof that all sequences cannot be run within `seconds`, and for groups that
  /// nearly could where there is none. Ends after a number of rounds.
  Answer prove(double seconds);

  /// Items of a row: [first, second).
  std::pair<int, int> items(int row) const {
    const Row& some = rows_[static_cast<std::size_t>(row)];
    return {some.begin, some.end};
  }

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
  void add_first_patterns();
  /// Of a kind: `share` is how much of its room is its time, the rest being memory.
  void set_choices(int kind, double seconds, const std::vector<double>& prices, double share);
  /// The share for which fractions of sequences are worth the least, and their worth.
  double best_share(int kind, double seconds, const std::vector<double>& prices, double& bound);
  /// As much of what was chosen as fits, and what else does.
  Pattern fitting(int kind, double seconds, const std::vector<int>& counts) const;
  bool add_better_patterns(double seconds, const std::vector<double>& prices, double& overprice);
  double true_overprice(double seconds, const std::vector<double>& prices);
  Prices prices_of(const std::vector<double>& rows, double overprice) const;
  std::vector<Share> shares_of(const Model& model, const std::vector<std::size_t>& columns) const;

  const Problem& problem_;
  std::vector<Row> rows_;
  std::vector<Pattern> patterns_;
  Knapsack knapsack_;
  std::vector<Choice> choices_;
};

}  // namespace longspan::plan
