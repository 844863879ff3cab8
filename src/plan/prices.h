#pragma once

#include <vector>

#include "plan/packing.h"

namespace longspan::plan {

/// What each sequence is worth in ranks: no group that takes at most some time holds sequences of
/// more worth than it has ranks. So sequences that are worth more than there are ranks cannot all
/// be run within that time: prices are proofs, whoever made them.
struct Prices {
  std::vector<double> items;
  double total = 0;
};

/// Prices for groups of at most `seconds`, from what the sequences take of each kind's time and
/// memory: the dual of a linear program that knows of no whole groups. The total is infinite where
/// a sequence alone takes longer.
Prices aggregate_prices(const Problem& problem, double seconds);

/// A time that no packing beats, by these prices.
double aggregate_bound(const Problem& problem);

/// More than the rounding of sums of prices.
inline constexpr double kRoundingOfPrices = 1e-9;
inline bool are_too_dear(double total, int ranks) {
  return total > ranks * (1 + kRoundingOfPrices);
}

}  // namespace longspan::plan
