#include "longspan/plan/planner.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "longspan/base/error.h"
#include "tests/plan/costs_bench.h"

namespace longspan::plan {
namespace {

using test::small_costs;

TEST_CASE("per micro-batch: all groups of a micro-batch are of one kind") {
  const CostModel costs = small_costs(8);
  const std::vector<std::int64_t> lengths = {700, 90, 90, 90, 90, 80, 80, 70, 60, 5, 4, 3, 2, 1};
  const StepPlan plan = plan_step(lengths, costs, {Planner::kPerMicroBatch, 2});
  check_plan(plan, lengths, costs);
  CHECK(plan.micro_batches.size() >= 2);
  for (const MicroBatch& micro_batch : plan.micro_batches) {
    for (const Group& group : micro_batch.groups) {
      CHECK(group.kind == micro_batch.groups.front().kind);
    }
  }
  CHECK(plan.micro_batches.front().groups.front().degree == 8);
  const std::vector<std::int64_t> short_ones(8, 50);
  const StepPlan ones = plan_step(short_ones, costs, {Planner::kPerMicroBatch, 2});
  check_plan(ones, short_ones, costs);
  REQUIRE(ones.micro_batches.size() == 1);
  CHECK(ones.micro_batches.front().groups.size() == 8);
}

TEST_CASE("a batch without sequences has no micro-batches") {
  CHECK(plan_step({}, small_costs(4), {}).micro_batches.empty());
  CHECK(plan_of_one_kind({}, small_costs(4), 0).micro_batches.empty());
}

TEST_CASE("a sequence that fits into no group is refused with its length") {
  CHECK_THROWS_AS(plan_step({5, 401}, small_costs(4), {}), base::InputError);
  CHECK_THROWS_WITH(plan_step({5, 401}, small_costs(4), {}),
                    Catch::Contains("sequence 1 of 401 tokens") && Catch::Contains("400"));
  CHECK_NOTHROW(plan_step({5, 400}, small_costs(4), {}));
  CHECK_THROWS_AS(plan_step({5, 0}, small_costs(4), {}), base::InputError);
  CHECK_THROWS_AS(plan_of_one_kind({5, 101}, small_costs(4), 0), base::InputError);
}

}  // namespace
}  // namespace longspan::plan
