#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longspan::plan {

/// What a group of ranks can be, and what it costs. A group that runs sequences of s_1 … s_n tokens
/// takes fixed_seconds + Σ (seconds_per_token s_k + seconds_per_token_squared s_k²), communication
/// and the division among its ranks included (Wang et al. 2025, FlexSP, equations 8 to 11).
struct GroupKind {
  int degree = 1;     ///< ranks, a power of two
  std::string level;  ///< of activation checkpointing, as memory.activation_checkpointing has it;
                      ///< empty: the job's own
  double fixed_seconds = 0;
  double seconds_per_token = 0;
  double seconds_per_token_squared = 0;
  std::int64_t max_tokens = 0;  ///< of all its sequences together, by memory

  double seconds(std::int64_t sequence) const {
    const auto tokens = static_cast<double>(sequence);
    return (seconds_per_token + seconds_per_token_squared * tokens) * tokens;
  }
};

/// A cluster as a planner sees it.
struct CostModel {
  int ranks = 1;
  std::vector<GroupKind> kinds;  ///< at least one; no degree is above `ranks`
  /// Every micro-batch, whatever its groups: gathering of weights, start-up. Part of its time.
  double micro_batch_seconds = 0;
  std::string source;  ///< where the figures come from, in words
};

}  // namespace longspan::plan
