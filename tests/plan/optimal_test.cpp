// Plans beside the fastest there are: of small micro-batches, solved to the end by HiGHS as
// FlexSP's mixed integer program (scripts/fixtures/planner_reference.py).
#include <catch2/catch.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "longspan/base/file.h"
#include "longspan/plan/cost_file.h"
#include "longspan/plan/planner.h"
#include "tests/support/test_data.h"

namespace longspan::plan {
namespace {

/// Of every micro-batch: so long that one is better than two, whatever is in them.
constexpr double kMicroBatchSeconds = 1000;

CostModel costs_of(const nlohmann::json& kinds, int ranks) {
  nlohmann::json file = {{"ranks", ranks},
                         {"micro_batch_seconds", kMicroBatchSeconds},
                         {"kinds", nlohmann::json::array()}};
  for (const nlohmann::json& kind : kinds) {
    if (kind["degree"] <= ranks) file["kinds"].push_back(kind);
  }
  return parse_cost_file(file.dump(), "optimal.json");
}

TEST_CASE("plans are as fast as HiGHS's optimum, and bounds below it") {
  const nlohmann::json stored = nlohmann::json::parse(
      base::read_text(test::data_folder() / "plan" / "data" / "optimal.json"));
  REQUIRE(stored["micro_batches"].size() == 28);
  for (const nlohmann::json& micro_batch : stored["micro_batches"]) {
    INFO(micro_batch.dump());
    const CostModel costs = costs_of(stored["kinds"], micro_batch["ranks"].get<int>());
    const auto lengths = micro_batch["lengths"].get<std::vector<std::int64_t>>();
    const double optimum = micro_batch["seconds"].get<double>();
    PlannerOptions options;
    options.enough_gap = 0;
    const StepPlan plan = plan_step(lengths, costs, options);
    REQUIRE(plan.micro_batches.size() == 1);
    CHECK(plan.seconds - kMicroBatchSeconds == Approx(optimum).epsilon(1e-6));
    CHECK(plan.bound_seconds - kMicroBatchSeconds <= optimum * (1 + 1e-6));
    CHECK(plan.any_bound_seconds - kMicroBatchSeconds <= optimum * (1 + 1e-6));
    // What is not searched to the end is within the gap that it tells.
    const StepPlan quick = plan_step(lengths, costs, {});
    CHECK(quick.bound_seconds - kMicroBatchSeconds <= optimum * (1 + 1e-6));
    CHECK(quick.seconds - kMicroBatchSeconds <= optimum * 1.011);
  }
}

}  // namespace
}  // namespace longspan::plan
