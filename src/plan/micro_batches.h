#pragma once

#include <cstdint>
#include <vector>

#include "longspan/plan/cost_model.h"

namespace longspan::plan {

/// Numbers of micro-batches that are tried, from the fewest on (FlexSP, section 4.3).
inline constexpr int kCountsTried = 5;

/// Numbers of sequences, longest first.
using Chunk = std::vector<std::int32_t>;

/// All numbers of `lengths`, longest first; ties in order of number.
Chunk longest_first(const std::vector<std::int64_t>& lengths);

/// Cuts sequences that are sorted into at most `count` runs of neighbours of which the one of most
/// tokens has as few as possible: FlexSP's sequence blaster.
std::vector<Chunk> blast(const Chunk& sorted, const std::vector<std::int64_t>& lengths, int count);

/// Tokens that all ranks together have memory for, at most.
double cluster_tokens(const CostModel& costs);

/// The fewest micro-batches that have memory for all tokens, if these could be cut at will.
int fewest_micro_batches(const std::vector<std::int64_t>& lengths, const CostModel& costs);

}  // namespace longspan::plan
