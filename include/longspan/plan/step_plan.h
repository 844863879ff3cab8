#pragma once

#include <cstdint>
#include <vector>

namespace longspan::plan {

/// Ranks [first_rank, first_rank + degree) that run some sequences together, packed one after
/// another and cut evenly. first_rank is a multiple of degree, so a world of N = 2^n ranks needs
/// 2N - 1 groups for all plans.
struct Group {
  int first_rank = 0;
  int degree = 1;
  int kind = 0;                         ///< in CostModel::kinds
  std::vector<std::int32_t> sequences;  ///< numbers in the step's batch
};

/// Groups that run at the same time. Ranks in none of them have nothing to compute.
struct MicroBatch {
  std::vector<Group> groups;
  double seconds = 0;  ///< predicted: the slowest group's, and what every micro-batch takes
};

/// Who computes what in one step. Each sequence of the batch is in exactly one group.
struct StepPlan {
  std::vector<MicroBatch> micro_batches;
  double seconds = 0;  ///< predicted: the sum of the micro-batches'
  /// No plan whose micro-batches have the same sequences takes less, by the same costs; 0: not
  /// known.
  double bound_seconds = 0;
  /// No plan at all takes less, by the same costs: a much weaker bound; 0: not known.
  double any_bound_seconds = 0;

  /// How much faster a plan with the same micro-batches could be, at most, as a part of this one's
  /// time.
  double gap() const { return seconds > 0 ? 1.0 - bound_seconds / seconds : 0.0; }
};

}  // namespace longspan::plan
