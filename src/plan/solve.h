#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "plan/configurations.h"
#include "plan/packing.h"

namespace longspan::plan {

/// A packing and what is known of all others.
struct Solution {
  Packing packing;
  double bound = 0;  ///< no packing takes less

  double gap() const { return packing.seconds > 0 ? 1 - bound / packing.seconds : 0; }
};

/// The fastest of quick heuristics, with a quick bound. `configurations` are all there are, or
/// empty. Nothing: none of them found a packing.
std::optional<Solution> solve_roughly(const Problem& problem,
                                      const std::vector<Configuration>& configurations);

/// Makes the packing faster and the bound closer until they are no further apart than `enough_gap`,
/// or searching has cost what it may.
void refine(const Problem& problem, double enough_gap, std::int64_t node_limit, Solution& solution);

}  // namespace longspan::plan
