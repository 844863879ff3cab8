#include "plan/construct.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "plan/knapsack.h"

namespace longspan::plan {
namespace {

constexpr int kCells = 1024;
/// Sequences among which the company of the longest is sought.
constexpr std::size_t kMostChoices = 128;

class Constructor {
 public:
  Constructor(const Problem& problem, double seconds, const Prices& prices)
      : problem_(problem),
        seconds_(seconds),
        prices_(prices),
        knapsack_(kCells),
        ranks_(problem.costs().ranks) {
    left_.resize(static_cast<std::size_t>(problem.size()));
    std::iota(left_.begin(), left_.end(), 0);
  }

  void take_shares(const PatternProgram& program, const PatternProgram::Answer& answer,
                   double whole) {
    for (const PatternProgram::Share& share : answer.shares) {
      double groups = share.groups;
      for (; groups >= whole && problem_.kind(share.kind).degree <= ranks_; groups -= 1) {
        Bin bin = Bin::of(problem_, share.kind);
        for (const auto& [row, count] : share.rows) add_some(bin, program.items(row), count);
        if (bin.items.empty()) break;
        commit(std::move(bin));
      }
    }
  }

  std::optional<Packing> run() {
    while (!left_.empty()) {
      auto bin = best_bin();
      if (!bin) return std::nullopt;
      commit(std::move(*bin));
    }
    packing_.seconds = slowest(packing_.bins);
    return std::move(packing_);
  }

 private:
  /// The longest that are left of some items.
  void add_some(Bin& bin, std::pair<int, int> items, int count) {
    auto item = std::lower_bound(left_.begin(), left_.end(), items.first);
    for (; count > 0 && item != left_.end() && *item < items.second; ++item) {
      if (!takes(bin, *item)) continue;
      bin.add(problem_, *item);
      --count;
    }
  }

  void commit(Bin bin) {
    ranks_ -= problem_.kind(bin.kind).degree;
    std::vector<int> taken = bin.items;
    std::sort(taken.begin(), taken.end());
    std::erase_if(left_,
                  [&](int item) { return std::binary_search(taken.begin(), taken.end(), item); });
    packing_.bins.push_back(std::move(bin));
  }

  double price(int item) const { return prices_.items[static_cast<std::size_t>(item)]; }

  std::optional<Bin> best_bin() {
    std::optional<Bin> best;
    double best_worth = 0;
    for (int kind = 0; kind < problem_.kinds(); ++kind) {
      const int degree = problem_.kind(kind).degree;
      Bin bin = Bin::of(problem_, kind);
      if (degree > ranks_ || !takes(bin, left_.front())) continue;
      bin.add(problem_, left_.front());
      add_company(bin);
      double worth = 0;
      for (const int item : bin.items) worth += price(item);
      // All that is left: nothing is worth less for taking fewer ranks.
      if (bin.items.size() == left_.size()) worth = std::max(worth, 1e-9);
      if (!best || worth / degree > best_worth) {
        best_worth = worth / degree;
        best = std::move(bin);
      }
    }
    return best;
  }

  bool takes(const Bin& bin, int item) const {
    return bin.has_room(problem_, item) &&
           bin.seconds + problem_.seconds(bin.kind, item) <= seconds_;
  }

  void add_company(Bin& bin) {
    const double time = seconds_ - bin.seconds;
    const auto room = static_cast<double>(problem_.kind(bin.kind).max_tokens - bin.tokens);
    candidates_.clear();
    choices_.clear();
    const std::size_t step = 1 + left_.size() / kMostChoices;
    for (std::size_t place = 1; place < left_.size(); place += step) {
      const int item = left_[place];
      if (!takes(bin, item)) continue;
      const double of_time = time > 0 ? problem_.seconds(bin.kind, item) / time : 0;
      candidates_.push_back(item);
      choices_.push_back(
          {std::max(of_time, static_cast<double>(problem_.tokens(item)) / room), price(item), 1});
    }
    const std::vector<int>& counts = knapsack_.fill(choices_);
    std::vector<int> taken = {bin.items.front()};
    for (std::size_t number = 0; number < counts.size(); ++number) {
      if (counts[number] > 0 && takes(bin, candidates_[number])) {
        bin.add(problem_, candidates_[number]);
        taken.push_back(candidates_[number]);
      }
    }
    // Room that the grid's rounding left.
    for (std::size_t place = 1; place < left_.size(); ++place) {
      const int item = left_[place];
      if (takes(bin, item) && !std::binary_search(taken.begin(), taken.end(), item)) {
        bin.add(problem_, item);
      }
    }
  }

  const Problem& problem_;
  double seconds_;
  const Prices& prices_;
  Knapsack knapsack_;
  int ranks_;
  Packing packing_;
  std::vector<int> left_;  // longest first
  std::vector<int> candidates_;
  std::vector<Choice> choices_;
};

}  // namespace

std::optional<Packing> construct(const Problem& problem, double seconds,
                                 const PatternProgram& program,
                                 const PatternProgram::Answer& answer, double whole) {
  Constructor constructor(problem, seconds, answer.prices);
  constructor.take_shares(program, answer, whole);
  return constructor.run();
}

std::optional<Packing> construct(const Problem& problem, double seconds, const Prices& prices) {
  return Constructor(problem, seconds, prices).run();
}

}  // namespace longspan::plan
