// Adapters beside a frozen base on ranks: every layout against one rank.
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/train/ranks/layout_bench.h"
#include "train/step_plan.h"

namespace longspan::train {
namespace {

using longspan::test::check_layouts;
using longspan::test::check_same;
using longspan::test::Step;
using longspan::test::world;
using shard::SequenceDegrees;

Job job_of(const std::string& precision, double dropout, const std::string& model_type = "llama") {
  Job job = longspan::test::with_adapters(
      longspan::test::job_of(8, model_type == "gpt2" ? 8 : 2, precision, model_type), dropout);
  job.adapter.lora.alpha = 4.5;
  job.optimizer.epsilon = 1e-4;
  return job;
}

TEST_CASE("adapters at every layout of ranks: loss, gradients and weights are one rank's") {
  const double dropout = GENERATE(0.0, 0.3);
  SECTION("Llama, fp64") { check_layouts(job_of("fp64", dropout), 1e-11); }
  SECTION("GPT-2, fp32") { check_layouts(job_of("fp32", dropout, "gpt2"), 1e-5); }
}

TEST_CASE("adapters at every layout, with recomputation and mini-sequences") {
  Job job = job_of("fp64", 0.3);
  job.memory.activation_checkpointing =
      GENERATE(std::string("block"), std::string("block_keep_attention"));
  job.memory.mini_sequence_mlp = std::to_string(3);
  job.adapter.lora.target_modules = {"v_proj", "model.layers.1.mlp.down_proj"};
  check_layouts(job, 1e-11);
}

TEST_CASE("adapters beside a packed base at every layout: those of one rank") {
  Job job = job_of("fp64", 0.3);
  job.adapter.base_weights = "nf4";
  job.memory.activation_checkpointing = GENERATE(std::string("none"), std::string("block"));
  job.memory.mini_sequence_mlp = std::to_string(3);
  check_layouts(job, 1e-11);
}

TEST_CASE("adapters in planned steps: masks go with tokens, whichever group runs them") {
  const Job job = job_of("fp64", 0.3);
  const longspan::test::Batches rows = longspan::test::single_rows();
  const auto alone = comm::make_single_communicator();
  Step expected(job, *alone, {{}});
  expected.run(rows, fixed_plan(static_cast<std::int64_t>(rows.size()), 1, 1), 5);
  std::vector<SequenceDegrees> degrees;
  for (const int size : shard::aligned_sizes(world().size())) degrees.push_back({size, 1});
  Step found(job, world(), degrees);
  const plan::StepPlan plan = plan_of_all_sizes(longspan::test::lengths_of(rows), world().size());
  found.run(rows, plan, 5);
  check_same(found, expected, 1e-11);
  found.run(rows, plan, 6);
  CHECK(std::abs(found.loss - expected.loss) > 1e-6 * expected.loss);  // another step's masks
}

}  // namespace
}  // namespace longspan::train
