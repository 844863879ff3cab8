#include "longspan/plan/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "base/parallel.h"
#include "longspan/base/error.h"
#include "plan/best_cuts.h"
#include "plan/flexible.h"
#include "plan/micro_batches.h"
#include "plan/packing.h"

namespace longspan::plan {
namespace {

using Pack = std::function<std::optional<Packing>(const Problem&)>;

void check_lengths(const std::vector<std::int64_t>& lengths, const CostModel& costs,
                   std::int64_t capacity) {
  for (std::size_t sequence = 0; sequence < lengths.size(); ++sequence) {
    if (lengths[sequence] < 1) {
      throw base::InputError(fmt::format("sequence {} has {} tokens; 1 or more are needed",
                                         sequence, lengths[sequence]));
    }
    if (lengths[sequence] > capacity) {
      throw base::InputError(
          fmt::format("sequence {} of {} tokens fits into no group: the largest of the {} ranks' "
                      "have memory for "
                      "{}; leave out longer sequences, or give the ranks more memory",
                      sequence, lengths[sequence], costs.ranks, capacity));
    }
  }
}

std::int64_t largest_group(const CostModel& costs) {
  std::int64_t tokens = 0;
  for (const GroupKind& kind : costs.kinds) tokens = std::max(tokens, kind.max_tokens);
  return tokens;
}

/// Packs a chunk, or else its halves: one sequence alone has a group that it fits into.
void pack_all(const Chunk& chunk, const std::vector<std::int64_t>& lengths, const CostModel& costs,
              const Pack& pack, StepPlan& plan) {
  const Problem problem(lengths, chunk, costs);
  if (const auto packing = pack(problem)) {
    plan.micro_batches.push_back(place(problem, *packing));
    plan.seconds += plan.micro_batches.back().seconds;
    return;
  }
  if (chunk.size() == 1) throw base::InternalError("a sequence that fits was not packed");
  for (const Chunk& half : blast(chunk, lengths, 2)) pack_all(half, lengths, costs, pack, plan);
}

/// The best of several numbers of micro-batches, each of which `pack` packs on its own.
StepPlan best_split(const std::vector<std::int64_t>& lengths, const CostModel& costs, int threads,
                    const Pack& pack) {
  const Chunk sorted = longest_first(lengths);
  const int fewest = fewest_micro_batches(lengths, costs);
  std::vector<StepPlan> plans(kCountsTried);
  base::parallel_for(kCountsTried, threads, [&](std::int64_t more) {
    StepPlan& plan = plans[static_cast<std::size_t>(more)];
    for (const Chunk& chunk : blast(sorted, lengths, fewest + static_cast<int>(more))) {
      pack_all(chunk, lengths, costs, pack, plan);
    }
  });
  return *std::min_element(plans.begin(), plans.end(), [](const auto& left, const auto& right) {
    return left.seconds < right.seconds;
  });
}

/// The best of these splits, and of the cuts that are best for one kind a micro-batch.
StepPlan plan_per_micro_batch(const std::vector<std::int64_t>& lengths, const CostModel& costs,
                              int threads) {
  StepPlan plan = best_split(lengths, costs, threads, pack_best_kind);
  StepPlan other;
  for (const Chunk& chunk : best_cuts(longest_first(lengths), lengths, costs)) {
    pack_all(chunk, lengths, costs, pack_best_kind, other);
  }
  const bool is_better = !other.micro_batches.empty() && other.seconds < plan.seconds;
  return is_better ? other : plan;
}

}  // namespace

StepPlan plan_step(const std::vector<std::int64_t>& lengths, const CostModel& costs,
                   const PlannerOptions& options) {
  check_costs(costs);
  check_lengths(lengths, costs, largest_group(costs));
  if (lengths.empty()) return {};
  StepPlan plan = options.planner == Planner::kFlexible
                      ? plan_flexibly(lengths, costs, options)
                      : plan_per_micro_batch(lengths, costs, options.threads);
  plan.any_bound_seconds = std::min(plan.seconds, bound_of_any_plan(lengths, costs));
  check_plan(plan, lengths, costs);
  return plan;
}

StepPlan plan_of_one_kind(const std::vector<std::int64_t>& lengths, const CostModel& costs,
                          int kind) {
  check_costs(costs);
  if (kind < 0 || static_cast<std::size_t>(kind) >= costs.kinds.size()) {
    throw base::InternalError(fmt::format("kind {} of {}", kind, costs.kinds.size()));
  }
  check_lengths(lengths, costs, costs.kinds[static_cast<std::size_t>(kind)].max_tokens);
  if (lengths.empty()) return {};
  return best_split(lengths, costs, 1,
                    [kind](const Problem& problem) { return pack_one_kind(problem, kind); });
}

}  // namespace longspan::plan
