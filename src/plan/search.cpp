#include "plan/search.h"

#include <algorithm>
#include <utility>

namespace longspan::plan {
namespace {

/// A packing is faster only where it is by more than rounding.
constexpr double kRounding = 1e-9;

class Search {
 public:
  Search(const Problem& problem, const Prices& prices, std::int64_t node_limit, double seconds)
      : problem_(problem),
        prices_(prices),
        nodes_left_(node_limit),
        limit_(seconds * (1 - kRounding)),
        free_ranks_(problem.costs().ranks) {
    worth_left_.assign(static_cast<std::size_t>(problem.size()) + 1, 0);
    for (int item = problem.size() - 1; item >= 0; --item) {
      worth_left_[static_cast<std::size_t>(item)] =
          worth_left_[static_cast<std::size_t>(item) + 1] + price(item);
    }
  }

  SearchResult run() {
    place(0, 0);
    return {nodes_left_ > 0, std::move(best_)};
  }

 private:
  struct Open {
    Bin bin;
    double worth = 0;
  };

  double price(int item) const { return prices_.items[static_cast<std::size_t>(item)]; }

  /// Where a sequence may go: an open group, or (bin < 0) a new one of a kind.
  struct Way {
    double order;  ///< the lower, the sooner
    int bin;
    int kind;
  };

  bool takes(const Open& open, int item) const {
    return open.bin.has_room(problem_, item) &&
           open.bin.seconds + problem_.seconds(open.bin.kind, item) < limit_;
  }

  /// Whether the rest could be worth what is left. A group that not even the shortest sequence fits
  /// into is closed.
  bool is_hopeless(int item) const {
    double worth = free_ranks_;
    const int shortest = problem_.size() - 1;
    for (const Open& open : open_) {
      if (takes(open, shortest)) {
        worth += std::max(0.0, problem_.kind(open.bin.kind).degree - open.worth);
      }
    }
    return worth_left_[static_cast<std::size_t>(item)] >
           worth + kRoundingOfPrices * problem_.costs().ranks;
  }

  /// Sequences of one length are interchangeable: each goes no earlier than the one before.
  std::vector<Way> ways(int item, int first_bin) const {
    std::vector<Way> ways;
    for (int bin = first_bin; bin < static_cast<int>(open_.size()); ++bin) {
      const Open& open = open_[static_cast<std::size_t>(bin)];
      if (!takes(open, item) || has_twin(bin, first_bin)) continue;
      const int degree = problem_.kind(open.bin.kind).degree;
      // The tightest first: room that is left over is of use to fewer of the sequences to come.
      ways.push_back({(degree - open.worth - price(item)) / degree, bin, open.bin.kind});
    }
    for (int kind = 0; kind < problem_.kinds(); ++kind) {
      const Open open{Bin::of(problem_, kind), 0};
      const int degree = problem_.kind(kind).degree;
      if (degree > free_ranks_ || !takes(open, item)) continue;
      ways.push_back({1.0 + degree, -1, kind});
    }
    std::stable_sort(ways.begin(), ways.end(),
                     [](const Way& left, const Way& right) { return left.order < right.order; });
    return ways;
  }

  bool has_twin(int bin, int first_bin) const {
    const Bin& one = open_[static_cast<std::size_t>(bin)].bin;
    for (int other = first_bin; other < bin; ++other) {
      const Bin& two = open_[static_cast<std::size_t>(other)].bin;
      if (one.kind == two.kind && one.tokens == two.tokens && one.seconds == two.seconds) {
        return true;
      }
    }
    return false;
  }

  void place(int item, int first_bin) {
    if (item == problem_.size()) {
      keep();
      return;
    }
    if (nodes_left_ <= 0 || is_hopeless(item)) return;
    for (const Way& way : ways(item, first_bin)) {
      if (--nodes_left_ <= 0) return;
      const bool is_new = way.bin < 0;
      const std::size_t bin = is_new ? open_.size() : static_cast<std::size_t>(way.bin);
      if (is_new) {
        open_.push_back({Bin::of(problem_, way.kind), 0});
        free_ranks_ -= problem_.kind(way.kind).degree;
      }
      const std::int64_t tokens = open_[bin].bin.tokens;
      const double seconds = open_[bin].bin.seconds;
      const double worth = open_[bin].worth;
      // A better packing was found meanwhile: this place may take too long by now.
      if (takes(open_[bin], item)) {
        open_[bin].bin.add(problem_, item);
        open_[bin].worth += price(item);
        const bool is_twin =
            item + 1 < problem_.size() && problem_.tokens(item + 1) == problem_.tokens(item);
        place(item + 1, is_twin ? static_cast<int>(bin) : 0);
        open_[bin].bin.items.pop_back();
        open_[bin].bin.tokens = tokens;
        open_[bin].bin.seconds = seconds;
        open_[bin].worth = worth;
      }
      if (is_new) {
        open_.pop_back();
        free_ranks_ += problem_.kind(way.kind).degree;
      }
    }
  }

  void keep() {
    std::vector<Bin> bins;
    for (const Open& open : open_) bins.push_back(open.bin);
    const double seconds = slowest(bins);
    if (seconds >= limit_) return;
    best_ = Packing{std::move(bins), seconds};
    limit_ = seconds * (1 - kRounding);
  }

  const Problem& problem_;
  const Prices& prices_;
  std::int64_t nodes_left_;
  std::optional<Packing> best_;
  double limit_;
  int free_ranks_;
  std::vector<Open> open_;
  std::vector<double> worth_left_;  // of an item and all behind it
};

}  // namespace

SearchResult search(const Problem& problem, const Prices& prices, std::int64_t node_limit,
                    double seconds) {
  return Search(problem, prices, node_limit, seconds).run();
}

}  // namespace longspan::plan
