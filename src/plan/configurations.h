#pragma once

#include <optional>
#include <vector>

#include "plan/packing.h"

namespace longspan::plan {

/// How many groups of each kind there are.
using Configuration = std::vector<int>;

/// Whether there are few enough of them to try each: no more than 64 ranks, one kind a degree.
bool has_few_configurations(const CostModel& costs);

/// All that leave no room for another group.
std::vector<Configuration> all_configurations(const CostModel& costs);

/// Longest first, each sequence to the bin that is done with it the earliest. Nothing: one did not
/// fit, or some bin would take `limit` or longer.
std::optional<Packing> fill(const Problem& problem, const Configuration& configuration,
                            double limit);

/// The fastest that `fill` and then `polish` find for any configuration; at least as good as
/// `packing`, which they begin with.
void try_configurations(const Problem& problem, const std::vector<Configuration>& configurations,
                        Packing& packing);

}  // namespace longspan::plan
