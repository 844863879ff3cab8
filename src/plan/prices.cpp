#include "plan/prices.h"

#include <algorithm>
#include <array>
#include <limits>

namespace longspan::plan {
namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();
constexpr int kHalvings = 24;

/// How much of a kind's price is for its time; the rest is for its memory.
using Shares = std::vector<double>;

double price_of(const Problem& problem, double seconds, const Shares& shares, int item) {
  double price = kNone;
  for (int kind = 0; kind < problem.kinds(); ++kind) {
    const GroupKind& group = problem.kind(kind);
    const double time = seconds - group.fixed_seconds;
    const double taken = problem.seconds(kind, item);
    if (problem.tokens(item) > group.max_tokens || taken > time) continue;
    const double of_memory =
        static_cast<double>(problem.tokens(item)) / static_cast<double>(group.max_tokens);
    const double of_time = time > 0 ? taken / time : 0;
    const double share = shares[static_cast<std::size_t>(kind)];
    price = std::min(price, group.degree * (share * of_time + (1 - share) * of_memory));
  }
  return price;
}

Prices prices_at(const Problem& problem, double seconds, const Shares& shares) {
  Prices prices;
  prices.items.reserve(static_cast<std::size_t>(problem.size()));
  for (int item = 0; item < problem.size(); ++item) {
    prices.items.push_back(price_of(problem, seconds, shares, item));
    prices.total += prices.items.back();
  }
  return prices;
}

/// The time of the slowest sequence where it is fastest.
double slowest_alone(const Problem& problem) {
  double seconds = 0;
  for (int item = 0; item < problem.size(); ++item) {
    double fastest = kNone;
    for (int kind = 0; kind < problem.kinds(); ++kind) {
      if (problem.tokens(item) > problem.kind(kind).max_tokens) continue;
      fastest = std::min(fastest, problem.kind(kind).fixed_seconds + problem.seconds(kind, item));
    }
    seconds = std::max(seconds, fastest);
  }
  return seconds;
}

}  // namespace

Prices aggregate_prices(const Problem& problem, double seconds) {
  const auto kinds = static_cast<std::size_t>(problem.kinds());
  Shares best_shares(kinds, 1.0);
  Prices best = prices_at(problem, seconds, best_shares);
  if (best.total == kNone) return best;
  const auto try_shares = [&](const Shares& shares) {
    Prices prices = prices_at(problem, seconds, shares);
    if (prices.total > best.total) {
      best = std::move(prices);
      best_shares = shares;
    }
  };
  try_shares(Shares(kinds, 0.0));
  // The total is concave in the shares; any of them are a proof, so rough steps will do.
  for (int round = 0; round < 2; ++round) {
    for (std::size_t kind = 0; kind < kinds; ++kind) {
      for (const double share : {0.0, 0.5, 1.0}) {
        Shares shares = best_shares;
        shares[kind] = share;
        if (share != best_shares[kind]) try_shares(shares);
      }
    }
  }
  return best;
}

double aggregate_bound(const Problem& problem) {
  double low = slowest_alone(problem);
  double high = 2 * low;
  const int ranks = problem.costs().ranks;
  const auto is_impossible = [&](double seconds) {
    return are_too_dear(aggregate_prices(problem, seconds).total, ranks);
  };
  for (int doubling = 0; doubling < kHalvings && is_impossible(high); ++doubling) {
    low = high;
    high *= 2;
  }
  for (int halving = 0; halving < kHalvings && high - low > 1e-4 * high; ++halving) {
    const double middle = low + (high - low) / 2;
    (is_impossible(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace longspan::plan
