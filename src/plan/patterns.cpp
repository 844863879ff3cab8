#include "plan/patterns.h"

#include <coin/Clp_C_Interface.h>

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <utility>

namespace longspan::plan {
namespace {

/// Of the knapsack's grid: groups hold a dozen sequences where they are hard to pack.
constexpr int kCells = 2048;
constexpr int kMostCells = 8192;
constexpr int kMostRows = 160;
constexpr int kMostRounds = 80;
/// A pattern worth more than its ranks by less than this would not change the program's result.
constexpr double kWorthAdding = 1e-4;
/// How much of a group's room is said to be its time; the rest is its memory. Whatever fits by both
/// fits by any mixture of them.
constexpr std::array kShares = {0.0, 0.25, 0.5, 0.75, 1.0};
constexpr double kTooLarge = 2;
/// A part of the ranks that is little enough for whole groups to be found with ease.
constexpr double kRoomy = 0.85;
constexpr double kNoGroup = 1e-6;

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
    Clp_addRows(model_.get(), static_cast<int>(rows.size()), low.data(), high.data(), starts.data(),
                nullptr, nullptr);
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

  /// How often a column's pattern is used.
  double amount(int column) const { return Clp_primalColumnSolution(model_.get())[column]; }

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
  const int cells = kCells * kMostRows / std::max(1, static_cast<int>(rows_.size()));
  knapsack_ = Knapsack(std::clamp(cells, kCells, kMostCells));
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

void PatternProgram::add_first_patterns() {
  for (int row = 0; row < static_cast<int>(rows_.size()); ++row) {
    const Row& some = rows_[static_cast<std::size_t>(row)];
    for (int kind = 0; kind < problem_.kinds(); ++kind) {
      if (problem_.tokens(some.item()) <= problem_.kind(kind).max_tokens) {
        patterns_.push_back(
            {kind,
             problem_.kind(kind).fixed_seconds + problem_.seconds(kind, some.item()),
             {{row, 1}}});
      }
    }
  }
}

void PatternProgram::set_choices(int kind, double seconds, const std::vector<double>& prices,
                                 double share) {
  const double time = seconds - problem_.kind(kind).fixed_seconds;
  const auto room = static_cast<double>(problem_.kind(kind).max_tokens);
  choices_.clear();
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    const int item = rows_[row].item();
    const double of_time = problem_.seconds(kind, item) / time;
    const double of_memory = static_cast<double>(problem_.tokens(item)) / room;
    // What does not fit at all is never taken, whatever the mixture says.
    const bool fits = of_time <= 1 && of_memory <= 1;
    choices_.push_back({fits ? share * of_time + (1 - share) * of_memory : kTooLarge, prices[row],
                        rows_[row].count()});
  }
}

double PatternProgram::best_share(int kind, double seconds, const std::vector<double>& prices,
                                  double& bound) {
  double best = 0;
  bound = std::numeric_limits<double>::infinity();
  for (const double share : kShares) {
    set_choices(kind, seconds, prices, share);
    const double worth = fractional_bound(choices_);
    if (worth < bound) {
      bound = worth;
      best = share;
    }
  }
  return best;
}

PatternProgram::Pattern PatternProgram::fitting(int kind, double seconds,
                                                const std::vector<int>& counts) const {
  Pattern pattern{kind, problem_.kind(kind).fixed_seconds, {}};
  std::int64_t room = problem_.kind(kind).max_tokens;
  // What was chosen comes first, then whatever there is still room for, the dearest first.
  std::vector<int> taken(rows_.size());
  const auto take = [&](std::size_t row, int wanted) {
    const int item = rows_[row].item();
    while (wanted-- > 0 && problem_.tokens(item) <= room &&
           pattern.seconds + problem_.seconds(kind, item) <= seconds) {
      room -= problem_.tokens(item);
      pattern.seconds += problem_.seconds(kind, item);
      ++taken[row];
    }
  };
  for (std::size_t row = 0; row < rows_.size(); ++row) take(row, counts[row]);
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    take(row, rows_[row].count() - taken[row]);
    if (taken[row] > 0) pattern.rows.emplace_back(static_cast<int>(row), taken[row]);
  }
  return pattern;
}

bool PatternProgram::add_better_patterns(double seconds, const std::vector<double>& prices,
                                         double& overprice) {
  bool added = false;
  overprice = 0;
  for (int kind = 0; kind < problem_.kinds(); ++kind) {
    const GroupKind& group = problem_.kind(kind);
    if (seconds <= group.fixed_seconds) continue;
    double bound = 0;
    const double share = best_share(kind, seconds, prices, bound);
    overprice = std::max(overprice, std::min(1.0, bound / group.degree));
    if (bound <= group.degree * (1 + kWorthAdding)) continue;
    set_choices(kind, seconds, prices, share);
    Pattern pattern = fitting(kind, seconds, knapsack_.fill(choices_));
    double worth = 0;
    for (const auto& [row, count] : pattern.rows) {
      worth += count * prices[static_cast<std::size_t>(row)];
    }
    overprice = std::max(overprice, worth / group.degree);
    if (worth > group.degree * (1 + kWorthAdding)) {
      patterns_.push_back(std::move(pattern));
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
    double bound = 0;
    const double share = best_share(kind, seconds, prices, bound);
    if (bound <= overprice * group.degree) continue;
    set_choices(kind, seconds, prices, share);
    overprice = std::max(overprice, std::min(bound, knapsack_.bound(choices_)) / group.degree);
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
  std::vector<std::size_t> columns;  // numbers of patterns
  std::size_t known = 0;
  const auto add_known = [&] {
    for (; known < patterns_.size(); ++known) {
      const Pattern& pattern = patterns_[known];
      if (pattern.seconds > seconds) continue;
      model.add(pattern, problem_.kind(pattern.kind).degree);
      columns.push_back(known);
    }
  };
  add_known();
  Answer answer;
  for (int round = 0; round < kMostRounds; ++round) {
    const double needed = model.solve();
    const std::vector<double> prices = model.prices();
    double overprice = 1;
    const bool added = add_better_patterns(seconds, prices, overprice);
    // Farley 1990: prices scaled down by how much too dear they are, at most, are a proof.
    const bool may_prove = are_too_dear(needed / std::max(1.0, overprice), ranks);
    const bool is_roomy = needed < kRoomy * ranks;
    if (!added || may_prove || is_roomy || round + 1 == kMostRounds) {
      answer.prices = prices_of(prices, true_overprice(seconds, prices));
      answer.is_impossible = are_too_dear(answer.prices.total, ranks);
      if (!added || answer.is_impossible || is_roomy) break;
    }
    add_known();
  }
  if (!answer.is_impossible) answer.shares = shares_of(model, columns);
  return answer;
}

std::vector<PatternProgram::Share> PatternProgram::shares_of(
    const Model& model, const std::vector<std::size_t>& columns) const {
  std::vector<Share> shares;
  for (std::size_t column = 0; column < columns.size(); ++column) {
    const double groups = model.amount(static_cast<int>(column));
    const Pattern& pattern = patterns_[columns[column]];
    if (groups > kNoGroup) shares.push_back({pattern.kind, pattern.rows, groups});
  }
  std::stable_sort(shares.begin(), shares.end(), [](const Share& left, const Share& right) {
    return left.groups > right.groups;
  });
  return shares;
}

}  // namespace longspan::plan
