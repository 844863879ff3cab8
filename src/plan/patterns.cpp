#include "plan/patterns.h"

#include <coin/Clp_C_Interface.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <utility>

namespace longspan::plan {
namespace {

/// Of the knapsack's grid: groups hold a dozen sequences where they are hard to pack.
constexpr int kCells = 2048;
constexpr int kMostRows = 160;
constexpr int kMostRounds = 80;
/// A pattern worth more than its ranks by less than this would not change the program's result.
constexpr double kWorthAdding = 1e-4;

}  // namespace

/// CLP's model of the patterns so far: a row for what must be covered, a column for a pattern.
class PatternProgram::Model {
 public:
  explicit Model(const std::vector<Row>& rows) : model_(Clp_newModel(), &Clp_deleteModel) {
    Clp_setLogLevel(model_.get(), 0);
    std::vector<double> low;
    for (const Row& row : rows) low.push_back(row.count());
    const std::vector<double> high(rows.size(), kUnbounded);
    const std::vector<CoinBigIndex> starts(rows.size() + 1, 0);
    Clp_resize(model_.get(), 0, 0);
    Clp_addRows(model_.get(), static_cast<int>(rows.size()), low.data(), high.data(),
                starts.data(), nullptr, nullptr);
  }

  void add(const Pattern& pattern, int degree) {
    std::vector<int> rows;
    std::vector<double> counts;
    for (const auto& [row, count] : pattern.rows) {
      rows.push_back(row);
      counts.push_back(count);
    }
    const double low = 0;
    const double high = kUnbounded;
    const double cost = degree;
    const std::array<CoinBigIndex, 2> starts = {0, static_cast<CoinBigIndex>(rows.size())};
    Clp_addColumns(model_.get(), 1, &low, &high, &cost, starts.data(), rows.data(), counts.data());
  }

  /// Ranks that the patterns so far need.
  double solve() {
    Clp_primal(model_.get(), 0);
    return Clp_objectiveValue(model_.get());
  }

  std::vector<double> prices() const {
    const double* const dual = Clp_dualRowSolution(model_.get());
    std::vector<double> prices(dual, dual + Clp_numberRows(model_.get()));
    for (double& price : prices) price = std::max(0.0, price);
    return prices;
  }

 private:
  static constexpr double kUnbounded = 1e30;
  std::unique_ptr<Clp_Simplex, void (*)(Clp_Simplex*)> model_;
};

PatternProgram::PatternProgram(const Problem& problem) : problem_(problem), knapsack_(kCells) {
  make_rows();
  add_first_patterns();
}

void PatternProgram::make_rows() {
  // Neighbours go together where they are the most alike, coarser and coarser until few are left.
  for (double spread = 0;; spread = std::max(1e-4, 2 * spread)) {
    rows_.clear();
    for (int item = 0; item < problem_.size(); ++item) {
      const bool is_alike =
          !rows_.empty() && static_cast<double>(problem_.tokens(item)) * (1 + spread) >=
                                static_cast<double>(problem_.tokens(rows_.back().begin));
      if (is_alike) {
        rows_.back().end = item + 1;
      } else {
        rows_.push_back({item, item + 1});
      }
    }
    if (rows_.size() <= kMostRows) return;
  }
}

void PatternProgram::add_pattern(Pattern pattern) {
  pattern.seconds = problem_.kind(pattern.kind).fixed_seconds;
  for (const auto& [row, count] : pattern.rows) {
    pattern.seconds +=
        count * problem_.seconds(pattern.kind, rows_[static_cast<std::size_t>(row)].item());
  }
  patterns_.push_back(std::move(pattern));
}

void PatternProgram::add_first_patterns() {
  for (int row = 0; row < static_cast<int>(rows_.size()); ++row) {
    const Row& some = rows_[static_cast<std::size_t>(row)];
    for (int kind = 0; kind < problem_.kinds(); ++kind) {
      if (problem_.tokens(some.item()) <= problem_.kind(kind).max_tokens) {
        add_pattern({kind, 0, {{row, 1}}});
      }
    }
  }
}

double PatternProgram::time_share(int kind, double seconds) const {
  // The scarcer of the two, for the sequences at hand.
  const double time = seconds - problem_.kind(kind).fixed_seconds;
  double of_time = 0;
  double of_memory = 0;
  for (const Row& row : rows_) {
    of_time += row.count() * problem_.seconds(kind, row.item()) / time;
    of_memory += row.count() * static_cast<double>(problem_.tokens(row.item())) /
                 static_cast<double>(problem_.kind(kind).max_tokens);
  }
  return of_time > of_memory ? 1.0 : 0.0;
}

void PatternProgram::set_choices(int kind, double seconds, const std::vector<double>& prices,
                                 bool is_bound) {
  const double time = seconds - problem_.kind(kind).fixed_seconds;
  const double share = is_bound ? time_share(kind, seconds) : 0;
  choices_.clear();
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    const int item = rows_[row].item();
    const double of_time = problem_.seconds(kind, item) / time;
    const double of_memory = static_cast<double>(problem_.tokens(item)) /
                             static_cast<double>(problem_.kind(kind).max_tokens);
    const double larger = std::max(of_time, of_memory);
    const double size = is_bound ? share * of_time + (1 - share) * of_memory : larger;
    // What does not fit at all is never taken, whatever the mixture says.
    choices_.push_back({larger > 1 ? 2.0 : size, prices[row], rows_[row].count()});
  }
}

bool PatternProgram::add_better_patterns(double seconds, const std::vector<double>& prices,
                                         double& overprice) {
  bool added = false;
  overprice = 0;
  for (int kind = 0; kind < problem_.kinds(); ++kind) {
    const GroupKind& group = problem_.kind(kind);
    if (seconds <= group.fixed_seconds) continue;
    set_choices(kind, seconds, prices, false);
    const std::vector<int>& counts = knapsack_.fill(choices_);
    Pattern pattern{kind, 0, {}};
    double worth = 0;
    for (std::size_t row = 0; row < counts.size(); ++row) {
      if (counts[row] == 0) continue;
      pattern.rows.emplace_back(static_cast<int>(row), counts[row]);
      worth += counts[row] * prices[row];
    }
    overprice = std::max(overprice, worth / group.degree);
    if (worth > group.degree * (1 + kWorthAdding)) {
      add_pattern(std::move(pattern));
      added = true;
    }
  }
  return added;
}

double PatternProgram::true_overprice(double seconds, const std::vector<double>& prices) {
  double overprice = 0;
  for (int kind = 0; kind < problem_.kinds(); ++kind) {
    const GroupKind& group = problem_.kind(kind);
    if (seconds <= group.fixed_seconds) continue;
    set_choices(kind, seconds, prices, true);
    overprice = std::max(overprice, knapsack_.bound(choices_) / group.degree);
  }
  return overprice;
}

Prices PatternProgram::prices_of(const std::vector<double>& rows, double overprice) const {
  Prices prices;
  prices.items.resize(static_cast<std::size_t>(problem_.size()));
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    const double price = overprice > 0 ? rows[row] / overprice : 0;
    for (int item = rows_[row].begin; item < rows_[row].end; ++item) {
      prices.items[static_cast<std::size_t>(item)] = price;
    }
    prices.total += price * rows_[row].count();
  }
  return prices;
}

PatternProgram::Answer PatternProgram::prove(double seconds) {
  const int ranks = problem_.costs().ranks;
  Model model(rows_);
  std::size_t known = 0;
  const auto add_known = [&] {
    for (; known < patterns_.size(); ++known) {
      const Pattern& pattern = patterns_[known];
      if (pattern.seconds <= seconds) model.add(pattern, problem_.kind(pattern.kind).degree);
    }
  };
  add_known();
  Answer best;
  for (int round = 0; round < kMostRounds; ++round) {
    const double needed = model.solve();
    const std::vector<double> prices = model.prices();
    const bool is_possible = needed <= ranks;
    double overprice = 1;
    const bool added = !is_possible && add_better_patterns(seconds, prices, overprice);
    // Farley 1990: prices scaled down by how much too dear they are, at most, are a proof.
    if (is_possible || !added || are_too_dear(needed / std::max(1.0, overprice), ranks)) {
      best.prices = prices_of(prices, true_overprice(seconds, prices));
      best.is_impossible = are_too_dear(best.prices.total, ranks);
      if (is_possible || !added || best.is_impossible) return best;
    }
    add_known();
  }
  return best;
}

}  // namespace longspan::plan
