// Compressed gradients on ranks: every layout against one rank.
#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/base/error.h"
#include "tests/train/ranks/layout_bench.h"
#include "train/step_plan.h"

namespace longspan::train {
namespace {

using longspan::test::check_layouts;
using longspan::test::check_same;
using longspan::test::Step;
using longspan::test::world;

Job job_of(const std::string& precision) {
  Job job = longspan::test::job_of(8, 2, precision);
  job.velora.target_modules = {"v_proj", "down_proj"};
  job.velora.groups = 4;
  job.velora.scale = 1.5;
  job.optimizer.epsilon = 1e-4;
  return job;
}

TEST_CASE("compressed gradients at every layout of ranks are one rank's") {
  SECTION("fp64") { check_layouts(job_of("fp64"), 1e-11); }
  SECTION("fp32") { check_layouts(job_of("fp32"), 2e-5); }
}

TEST_CASE("compressed gradients at every layout, with recomputation and mini-sequences") {
  Job job = job_of("fp64");
  job.memory.activation_checkpointing = "block";
  job.memory.mini_sequence_mlp = std::to_string(3);
  job.velora.target_modules = {"q_proj", "o_proj", "model.layers.1.mlp.up_proj"};
  check_layouts(job, 1e-11);
}

TEST_CASE("compressed gradients of adapters at every layout, with dropout") {
  check_layouts(longspan::test::with_adapters(job_of("fp64"), GENERATE(0.0, 0.3)), 1e-11);
}

TEST_CASE("directions are found once, from the first step's tokens, and stay") {
  const Job job = job_of("fp64");
  const longspan::test::Batches rows = longspan::test::single_rows();
  const auto plan = fixed_plan(static_cast<std::int64_t>(rows.size()), world().size(), 1);
  Step step(job, world(), {{}});
  nn::Directions& directions = step.step.model().trained().directions();
  REQUIRE(directions.count() == 4);
  CHECK_FALSE(directions.are_there());
  const auto all = [&] {
    std::vector<double> values;
    for (int number = 0; number < directions.count(); ++number) {
      const backend::Tensor one = directions.of(number);
      const double* const data = one.data<double>();
      CHECK(std::abs(step.backend->sum_of_squares(one) - 1.0) < 1e-12);
      values.insert(values.end(), data, data + one.elements());
    }
    return values;
  };
  step.run(rows, plan, 0);
  REQUIRE(directions.are_there());
  const std::vector<double> first = all();
  step.step.update(0, step.loss);
  step.run({rows[2], rows[0], rows[1], rows[3], rows[4]}, plan, 1);
  CHECK(all() == first);
  // The norm of what is compressed is a part of the whole.
  const auto update = step.step.update(1, step.loss);
  CHECK(update.compressed_grad_norm > 0.0);
  CHECK(update.compressed_grad_norm < update.grad_norm);
}

TEST_CASE("directions that differ between ranks are found out") {
  if (world().size() == 1) return;
  const Job job = job_of("fp32");
  const longspan::test::Batches rows = longspan::test::single_rows();
  Step step(job, world(), {{}});
  nn::Directions& directions = step.step.model().trained().directions();
  step.backend->fill(directions.of(1), world().rank() == 0 ? 0.5 : 0.25);
  directions.set_there();
  const auto plan = fixed_plan(static_cast<std::int64_t>(rows.size()), world().size(), 1);
  CHECK_THROWS_AS(step.run(rows, plan, 0), base::InternalError);
}

}  // namespace
}  // namespace longspan::train
