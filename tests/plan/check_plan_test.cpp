#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/plan/planner.h"
#include "tests/plan/costs_bench.h"

namespace longspan::plan {
namespace {

using test::small_costs;

/// One micro-batch on four ranks: the long sequence on two of them, a short one on each other.
StepPlan sound_plan(const std::vector<std::int64_t>& lengths, const CostModel& costs) {
  StepPlan plan;
  plan.micro_batches.push_back({{{0, 2, 1, {0}}, {2, 1, 0, {1}}, {3, 1, 0, {2}}}, 0});
  for (const Group& group : plan.micro_batches[0].groups) {
    const GroupKind& kind = costs.kinds[static_cast<std::size_t>(group.kind)];
    double seconds = kind.fixed_seconds + costs.micro_batch_seconds;
    for (const std::int32_t sequence : group.sequences) {
      seconds += kind.seconds(lengths[static_cast<std::size_t>(sequence)]);
    }
    plan.seconds = std::max(plan.seconds, seconds);
  }
  plan.micro_batches[0].seconds = plan.seconds;
  return plan;
}

TEST_CASE("the checker of plans finds what cannot be run") {
  const CostModel costs = small_costs(4);
  const std::vector<std::int64_t> lengths = {150, 60, 40};
  const StepPlan sound = sound_plan(lengths, costs);
  REQUIRE_NOTHROW(check_plan(sound, lengths, costs));

  struct Fault {
    std::string says;
    std::function<void(std::vector<Group>& groups, StepPlan& plan)> make;
  };
  const std::vector<Fault> faults = {
      {"sequence 2 is in 0 groups", [](auto& groups, auto&) { groups.pop_back(); }},
      {"sequence 1 is in 2 groups",
       [](auto& groups, auto&) {
         groups[2].sequences = {1, 2};
       }},
      {"sequence 3 of 3", [](auto& groups, auto&) { groups[2].sequences = {3}; }},
      {"without sequences", [](auto& groups, auto&) { groups[2].sequences.clear(); }},
      {"has memory for 100",
       [](auto& groups, auto&) {
         groups[0] = {0, 1, 0, {0}};
       }},
      {"rank 2 in two groups", [](auto& groups, auto&) { groups[2].first_rank = 2; }},
      {"begins at a multiple", [](auto& groups, auto&) { groups[0].first_rank = 1; }},
      {"begins at a multiple", [](auto& groups, auto&) { groups[2].first_rank = 4; }},
      {"begins at a multiple", [](auto& groups, auto&) { groups[2].first_rank = -1; }},
      {"kind 3 of 3", [](auto& groups, auto&) { groups[0].kind = 3; }},
      {"of 4 ranks of kind 1", [](auto& groups, auto&) { groups[0].degree = 4; }},
      {"takes", [](auto&, StepPlan& plan) { plan.micro_batches[0].seconds *= 1.01; }},
      {"take", [](auto&, StepPlan& plan) { plan.seconds *= 1.01; }},
      {"no plan takes less", [](auto&, StepPlan& plan) { plan.bound_seconds = 2 * plan.seconds; }},
      {"has no groups", [](auto& groups, auto&) { groups.clear(); }},
  };
  for (const Fault& fault : faults) {
    INFO(fault.says);
    StepPlan plan = sound;
    fault.make(plan.micro_batches[0].groups, plan);
    CHECK_THROWS_AS(check_plan(plan, lengths, costs), base::InternalError);
    CHECK_THROWS_WITH(check_plan(plan, lengths, costs), Catch::Contains(fault.says));
  }
}

}  // namespace
}  // namespace longspan::plan
