// Adapters beside a frozen base on ranks: every layout against one rank.
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "longspan/base/random.h"
#include "tests/model/fixture.h"
#include "tests/train/ranks/step_bench.h"
#include "train/step_plan.h"
#include "train/training_step.h"

namespace longspan::train {
namespace {

using longspan::test::all_degrees;
using longspan::test::row_of;
using longspan::test::world;
using shard::SequenceDegrees;
using Rows = std::vector<std::shared_ptr<const data::MicroBatch>>;

Job job_of(const std::string& precision, double dropout, const std::string& model_type = "llama") {
  Job job = longspan::test::job_of(8, model_type == "gpt2" ? 8 : 2, precision, model_type);
  job.adapter.type = "lora";
  job.adapter.lora.rank = 3;
  job.adapter.lora.alpha = 4.5;
  job.adapter.lora.dropout = dropout;
  job.optimizer.epsilon = 1e-4;
  return job;
}

/// Rows that are packed and not, one shorter than there are ranks.
Rows packed_rows() {
  return {row_of({37}, 1.0, 1), row_of({5, 1, 12, 3}, 1.0, 2), row_of({9, 8}, 1.0, 3),
          row_of({2}, 1.0, 4)};
}
/// A document each, as planners deal them out.
Rows single_rows() {
  return {row_of({23}, 1.0, 1), row_of({5}, 1.0, 2), row_of({40}, 1.0, 3), row_of({1}, 1.0, 4),
          row_of({11}, 1.0, 5)};
}

std::vector<std::int64_t> lengths_of(const Rows& rows) {
  std::vector<std::int64_t> lengths;
  for (const auto& row : rows) lengths.push_back(static_cast<std::int64_t>(row->tokens.size()));
  return lengths;
}

/// A step of these ranks, with a base and adapters that are not zero.
struct Step {
  Step(const Job& step_job, comm::Communicator& ranks, const std::vector<SequenceDegrees>& degrees)
      : job(step_job), meshes(ranks, degrees), step(job, *backend, ranks) {
    nn::ParameterSet& set = *step.model().adapters();
    for (int number = 0; number < static_cast<int>(set.parameters().size()); ++number) {
      set.begin_uniform(number, 0.2);
    }
    set.initialise(6, 0.0);
    step.optimizer().reset_master();
  }

  void run(const Rows& rows, const plan::StepPlan& plan, std::int64_t number) {
    const auto read = numbered([&](std::size_t row) { return rows[row]; }, lengths_of(rows));
    loss = step.forward_backward(train::passes_of(plan, meshes, read), number).loss();
    grad_norm = std::sqrt(step.model().trained().gradient_squares());
  }

  Job job;
  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  shard::Meshes meshes;
  TrainingStep step;
  double loss = 0;
  double grad_norm = 0;
};

void check_same(Step& found, Step& expected, double tolerance) {
  CHECK(std::abs(found.loss - expected.loss) <= tolerance * expected.loss);
  CHECK(std::abs(found.grad_norm - expected.grad_norm) <= tolerance * expected.grad_norm);
  CHECK(longspan::test::largest_distance(found.step.model().trained(), false,
                                         expected.step.model().trained()) <= tolerance);
}

/// Two steps with an update between them.
void check_layouts(Job job, double tolerance) {
  const auto alone = comm::make_single_communicator();
  const Rows rows = packed_rows();
  const auto count = static_cast<std::int64_t>(rows.size());
  for (const SequenceDegrees degrees : all_degrees()) {
    for (job.parallel.zero_stage = 0; job.parallel.zero_stage <= 3; ++job.parallel.zero_stage) {
      INFO(degrees.ulysses << " x " << degrees.ring << " of " << world().size()
                           << " ranks, ZeRO stage " << job.parallel.zero_stage);
      Step expected(job, *alone, {{}});
      Step found(job, world(), {degrees});
      for (std::int64_t step = 0; step < 2; ++step) {
        expected.run(rows, fixed_plan(count, 1, 1), step);
        found.run(rows, fixed_plan(count, world().size(), degrees.ranks()), step);
        check_same(found, expected, tolerance);
        expected.step.update(step, expected.loss);
        found.step.update(step, found.loss);
      }
      CHECK(longspan::test::largest_distance(found.step.model().trained(), true,
                                             expected.step.model().trained()) <= 10 * tolerance);
      CHECK(longspan::test::largest_distance(found.step.model().parameters(), true,
                                             expected.step.model().parameters()) == 0.0);
    }
  }
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

TEST_CASE("adapters in planned steps: masks go with tokens, whichever group runs them") {
  const Job job = job_of("fp64", 0.3);
  const Rows rows = single_rows();
  const auto alone = comm::make_single_communicator();
  Step expected(job, *alone, {{}});
  expected.run(rows, fixed_plan(static_cast<std::int64_t>(rows.size()), 1, 1), 5);
  std::vector<SequenceDegrees> degrees;
  for (const int size : shard::aligned_sizes(world().size())) degrees.push_back({size, 1});
  Step found(job, world(), degrees);
  const plan::StepPlan plan = plan_of_all_sizes(lengths_of(rows), world().size());
  found.run(rows, plan, 5);
  check_same(found, expected, 1e-11);
  found.run(rows, plan, 6);
  CHECK(std::abs(found.loss - expected.loss) > 1e-6 * expected.loss);  // another step's masks
}

}  // namespace
}  // namespace longspan::train
