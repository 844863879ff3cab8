// Run by ctest under mpirun with 1 to 4 ranks.
#include <catch2/catch.hpp>

#include "longspan/base/error.h"
#include "longspan/plan/cost_file.h"
#include "longspan/shard/mesh.h"
#include "longspan/train/cost_model.h"
#include "tests/train/ranks/step_bench.h"

namespace longspan::train {
namespace {

using longspan::test::world;

Job job_of(int zero_stage) {
  Job job = longspan::test::small_job(true, zero_stage);
  job.model.max_position_embeddings = 256;
  job.training.micro_batch_tokens = 256;
  job.training.tokens_per_step = 1024;
  job.memory.limit = std::uint64_t{64} << 20U;
  return job;
}

TEST_CASE("Measured costs are positive, the same on every rank, and read back") {
  const int zero_stage = GENERATE(1, 3);
  Job job = job_of(zero_stage);
  job.column_row_sampling.target_modules = {
      GENERATE(as<std::string>(), "none", "all-linear")};  // draws, or not
  const Costs costs = measure_costs(job, world(), 2);
  const plan::CostModel& model = costs.model;
  CHECK(model.ranks == world().size());
  REQUIRE(model.kinds.size() == shard::aligned_sizes(world().size()).size());
  for (const plan::GroupKind& kind : model.kinds) {
    CHECK(kind.fixed_seconds >= 0);
    CHECK(kind.fixed_seconds + kind.seconds_per_token + kind.seconds_per_token_squared > 0);
    CHECK(kind.max_tokens == 1024 + 256);
  }
  for (const CostCheck& check : costs.checks) CHECK(check.seconds > 0);
  const std::string text = plan::to_json(model);
  for (const std::string& other : world().all_gather(text)) CHECK(other == text);
  const plan::CostModel read = plan::parse_cost_file(text, "costs.json");
  CHECK(plan::to_json(read) == text);
  CHECK(read.source.starts_with("measured"));
}

TEST_CASE("Each level is measured with its own steps") {
  const Costs costs = measure_costs(job_of(2), world(), 1, {{"none", "block"}, 64});
  const std::size_t sizes = shard::aligned_sizes(world().size()).size();
  REQUIRE(costs.model.kinds.size() == 2 * sizes);
  CHECK(costs.model.kinds.front().level == "none");
  CHECK(costs.model.kinds.back().level == "block");
  for (const CostCheck& check : costs.checks) {
    CHECK(check.tokens <= 64 * costs.model.kinds[check.kind].degree);
  }
}

TEST_CASE("A device that is not this job's, or a level that is none, is refused on all ranks") {
  Job job = job_of(1);
  CHECK_THROWS_AS(measure_costs(job, world(), 1, {{"some"}, 0}), base::Error);
  job.run.device_profile = "h200";
  CHECK_THROWS_AS(measure_costs(job, world(), 1), base::Error);
}

}  // namespace
}  // namespace longspan::train
