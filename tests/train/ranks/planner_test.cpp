// Planners of steps as the trainer has them: rank 0 plans ahead, all ranks get the same.
#include "train/planner.h"

#include <catch2/catch.hpp>

#include "longspan/base/error.h"
#include "longspan/plan/planner.h"
#include "longspan/shard/mesh.h"
#include "tests/train/ranks/step_bench.h"
#include "train/plan_message.h"

namespace longspan::train {
namespace {

using longspan::test::world;

plan::CostModel costs() {
  plan::CostModel costs;
  costs.ranks = world().size();
  costs.micro_batch_seconds = 0.1 / 3;
  for (const int degree : shard::aligned_sizes(world().size())) {
    costs.kinds.push_back({degree, "", 0.1, 1.0 / (3 * degree), 0.01 / degree, 100 * degree});
  }
  return costs;
}

std::vector<std::int64_t> lengths_of(std::int64_t step) {
  return {1 + step % 7, 50, 3, 100, 20 * (1 + step % 3), 9};
}

Job job_of(const std::string& planner) {
  Job job = longspan::test::small_job(true, 1);
  job.training.micro_batch_tokens = 100;
  job.parallel.planner = planner;
  return job;
}

TEST_CASE("every rank gets the plan that the planner makes of the step's lengths") {
  const std::string name = GENERATE(as<std::string>(), "per_micro_batch", "flexible");
  const auto planner = make_step_planner(
      job_of(name), world().rank() == 0 ? costs() : plan::CostModel{}, world(), lengths_of, 6);
  plan::PlannerOptions options;
  if (name == "per_micro_batch") options.planner = plan::Planner::kPerMicroBatch;
  // In order, and from wherever a run is resumed.
  for (const std::int64_t step : {0, 1, 2, 5}) {
    const plan::StepPlan expected = plan::plan_step(lengths_of(step), costs(), options);
    CHECK(message_of(planner->plan(step)) == message_of(expected));
    CHECK(planner->metrics().has_value() == (world().rank() == 0));
    if (world().rank() > 0) continue;
    CHECK(planner->metrics()->predicted_seconds == expected.seconds);
    CHECK(planner->metrics()->wait_seconds >= 0);
  }
  CHECK(planner->degrees().back().ranks() == shard::aligned_sizes(world().size()).back());
  // A rank is enough for a row.
  CHECK(planner->plan_rows(world().size()).micro_batches.size() == 1);
}

TEST_CASE("what goes wrong while a step is planned ahead is every rank's error") {
  const auto lengths = [](std::int64_t step) {
    return step < 2 ? lengths_of(step) : std::vector<std::int64_t>{5, 1000};
  };
  const auto planner = make_step_planner(job_of("flexible"), costs(), world(), lengths, 9);
  CHECK_NOTHROW(planner->plan(0));
  CHECK_NOTHROW(planner->plan(1));
  try {
    planner->plan(2);
    FAIL("a sequence that fits nowhere was planned");
  } catch (const base::Error& error) {
    CHECK(error.code() == base::ExitCode::kBadInput);
    CHECK(error.agreed());
    CHECK_THAT(error.what(), Catch::Contains("1000 tokens"));
  }
}

TEST_CASE("a job whose longest document fits into no group is refused at once, by all ranks") {
  Job job = job_of("flexible");
  job.training.micro_batch_tokens = 100 * costs().kinds.back().degree + 1;
  CHECK_THROWS_WITH(make_step_planner(job, costs(), world(), lengths_of, 9),
                    Catch::Contains("no group of ranks has memory"));
}

TEST_CASE("a plan's message is read back to the last bit") {
  const plan::StepPlan plan = plan::plan_step(lengths_of(4), costs(), {});
  const plan::StepPlan read = plan_in(message_of(plan));
  CHECK_NOTHROW(plan::check_plan(read, lengths_of(4), costs()));
  CHECK(read.seconds == plan.seconds);
  CHECK(read.bound_seconds == plan.bound_seconds);
  REQUIRE(read.micro_batches.size() == plan.micro_batches.size());
  for (std::size_t at = 0; at < read.micro_batches.size(); ++at) {
    CHECK(read.micro_batches[at].seconds == plan.micro_batches[at].seconds);
    CHECK(read.micro_batches[at].groups.size() == plan.micro_batches[at].groups.size());
  }
  CHECK_THROWS_WITH(plan_in(message_of(base::ExitCode::kOutOfMemory, "too much")), "too much");
  CHECK_THROWS_AS(plan_in(""), base::InternalError);
}

}  // namespace
}  // namespace longspan::train
