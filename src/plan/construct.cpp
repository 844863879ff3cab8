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
      : problem_(problem), seconds_(seconds), prices_(prices), knapsack_(kCells) {
    left_.resize(static_cast<std::size_t>(problem.size()));
    std::iota(left_.begin(), left_.end(), 0);
  }

  std::optional<Packing> run() {
    int ranks = problem_.costs().ranks;
    Packing packing;
    while (!left_.empty()) {
      const auto bin = best_bin(ranks);
      if (!bin) return std::nullopt;
      ranks -= problem_.kind(bin->kind).degree;
      std::vector<int> taken = bin->items;
      std::sort(taken.begin(), taken.end());
      std::erase_if(left_, [&](int item) {
        return std::binary_search(taken.begin(), taken.end(), item);
      });
      packing.bins.push_back(*bin);
    }
    packing.seconds = slowest(packing.bins);
    return packing;
  }

 private:
  double price(int item) const { return prices_.items[static_cast<std::size_t>(item)]; }

  std::optional<Bin> best_bin(int ranks) {
    std::optional<Bin> best;
    double best_worth = 0;
    for (int kind = 0; kind < problem_.kinds(); ++kind) {
      const int degree = problem_.kind(kind).degree;
      Bin bin = Bin::of(problem_, kind);
      if (degree > ranks || !takes(bin, left_.front())) continue;
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
    const auto room =
        static_cast<double>(problem_.kind(bin.kind).max_tokens - bin.tokens);
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
  std::vector<int> left_;  // longest first
  std::vector<int> candidates_;
  std::vector<Choice> choices_;
};

}  // namespace

std::optional<Packing> construct(const Problem& problem, double seconds, const Prices& prices) {
  return Constructor(problem, seconds, prices).run();
}

}  // namespace longspan::plan
