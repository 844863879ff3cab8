#include "plan/flexible.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "base/parallel.h"
#include "longspan/base/error.h"
#include "plan/best_cuts.h"
#include "plan/micro_batches.h"
#include "plan/packing.h"
#include "plan/solve.h"

namespace longspan::plan {
namespace {

/// Of all ways to cut, so many that look best may be refined whatever they look like.
constexpr std::size_t kTriedFirst = 2;
/// Others, where the middle of bound and packing is at most this much above the best.
constexpr double kPromising = 1.02;

struct Part {
  Problem problem;
  Solution solution;
};

/// A batch cut into micro-batches in one way.
struct Split {
  std::vector<Part> parts;
  double fixed_seconds = 0;  ///< of all micro-batches, whatever their groups

  double seconds() const {
    double sum = fixed_seconds;
    for (const Part& part : parts) sum += part.solution.packing.seconds;
    return sum;
  }
  double bound() const {
    double sum = fixed_seconds;
    for (const Part& part : parts) sum += part.solution.bound;
    return sum;
  }
  double middle() const { return (seconds() + bound()) / 2; }
};

class FlexiblePlanner {
 public:
  FlexiblePlanner(const std::vector<std::int64_t>& lengths, const CostModel& costs,
                  const PlannerOptions& options)
      : lengths_(lengths), costs_(costs), options_(options) {
    if (has_few_configurations(costs)) configurations_ = all_configurations(costs);
  }

  Split run() {
    std::vector<Split> splits = rough_splits();
    std::stable_sort(splits.begin(), splits.end(), [](const Split& left, const Split& right) {
      return left.middle() < right.middle();
    });
    refine_all({&splits.front()});
    std::vector<Split*> others;
    const double best = fastest(splits)->seconds();
    for (std::size_t place = 1; place < splits.size(); ++place) {
      Split& split = splits[place];
      const bool is_promising = place < kTriedFirst || split.middle() <= kPromising * best;
      if (is_promising && split.bound() < best * (1 - options_.enough_gap / 2)) {
        others.push_back(&split);
      }
    }
    refine_all(others);
    return std::move(*fastest(splits));
  }

 private:
  std::vector<Split> rough_splits() {
    const Chunk sorted = longest_first(lengths_);
    const int fewest = fewest_micro_batches(lengths_, costs_);
    const int counts = std::min(kCountsTried, static_cast<int>(lengths_.size()) - fewest + 1);
    // The last: cut where it is fastest, not where tokens are even.
    std::vector<Split> splits(static_cast<std::size_t>(counts) + 1);
    base::parallel_for(
        static_cast<std::int64_t>(splits.size()), options_.threads, [&](std::int64_t number) {
          const auto chunks = number < counts
                                  ? blast(sorted, lengths_, fewest + static_cast<int>(number))
                                  : best_cuts(sorted, lengths_, costs_);
          for (const Chunk& chunk : chunks) add(chunk, splits[static_cast<std::size_t>(number)]);
        });
    if (splits.back().parts.empty()) splits.pop_back();
    return splits;
  }

  /// Packs a chunk, or else its halves: one sequence alone has a group that it fits into.
  void add(const Chunk& chunk, Split& split) {
    Problem problem(lengths_, chunk, costs_);
    if (auto solution = solve_roughly(problem, configurations_)) {
      split.parts.push_back({std::move(problem), std::move(*solution)});
      split.fixed_seconds += costs_.micro_batch_seconds;
      return;
    }
    if (chunk.size() == 1) throw base::InternalError("a sequence that fits was not packed");
    for (const Chunk& half : blast(chunk, lengths_, 2)) add(half, split);
  }

  void refine_all(const std::vector<Split*>& splits) {
    std::vector<Part*> parts;
    for (Split* split : splits) {
      for (Part& part : split->parts) parts.push_back(&part);
    }
    // The largest first, which leaves the least to wait for at the end.
    std::stable_sort(parts.begin(), parts.end(), [](const Part* left, const Part* right) {
      return left->problem.size() > right->problem.size();
    });
    base::parallel_for(
        static_cast<std::int64_t>(parts.size()), options_.threads, [&](std::int64_t number) {
          Part& part = *parts[static_cast<std::size_t>(number)];
          refine(part.problem, options_.enough_gap, options_.node_limit, part.solution);
        });
  }

  static Split* fastest(std::vector<Split>& splits) {
    return &*std::min_element(
        splits.begin(), splits.end(),
        [](const Split& left, const Split& right) { return left.seconds() < right.seconds(); });
  }

  const std::vector<std::int64_t>& lengths_;
  const CostModel& costs_;
  const PlannerOptions& options_;
  std::vector<Configuration> configurations_;
};

}  // namespace

StepPlan plan_flexibly(const std::vector<std::int64_t>& lengths, const CostModel& costs,
                       const PlannerOptions& options) {
  const Split split = FlexiblePlanner(lengths, costs, options).run();
  StepPlan plan;
  for (const Part& part : split.parts) {
    plan.micro_batches.push_back(place(part.problem, part.solution.packing));
    plan.seconds += plan.micro_batches.back().seconds;
  }
  plan.bound_seconds = std::min(plan.seconds, split.bound());
  return plan;
}

double bound_of_any_plan(const std::vector<std::int64_t>& lengths, const CostModel& costs) {
  if (lengths.empty()) return 0;
  double fixed = std::numeric_limits<double>::infinity();
  for (const GroupKind& kind : costs.kinds) fixed = std::min(fixed, kind.fixed_seconds);
  double seconds = fewest_micro_batches(lengths, costs) * (fixed + costs.micro_batch_seconds);
  for (const std::int64_t tokens : lengths) {
    double least = std::numeric_limits<double>::infinity();
    for (const GroupKind& kind : costs.kinds) {
      if (tokens <= kind.max_tokens) least = std::min(least, kind.degree * kind.seconds(tokens));
    }
    seconds += least / costs.ranks;
  }
  return seconds;
}

}  // namespace longspan::plan
