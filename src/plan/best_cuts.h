#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "longspan/plan/cost_model.h"
#include "plan/micro_batches.h"

namespace longspan::plan {

/// Sequences of which best cuts are looked for, at most.
inline constexpr std::size_t kMostCut = 2048;

/// Cuts sequences that are sorted into runs of neighbours so that the micro-batches take the least
/// time in all, each with groups of the one kind that is best for it: by dynamic programming over
/// places to cut, which lie between any two of the first sequences and then further and further
/// apart. Nothing where no such cuts were found, and beyond kMostCut sequences, of which they would
/// take too long to find.
std::vector<Chunk> best_cuts(const Chunk& sorted, const std::vector<std::int64_t>& lengths,
                             const CostModel& costs);

}  // namespace longspan::plan
