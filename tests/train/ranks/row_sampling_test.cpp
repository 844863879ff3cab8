// Gradients of sampled tokens on ranks: every layout against one rank.
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/train/ranks/layout_bench.h"
#include "train/step_plan.h"

namespace longspan::train {
namespace {

using longspan::test::check_layouts;
using longspan::test::Step;
using longspan::test::world;

Job job_of(const std::string& precision) {
  Job job = longspan::test::job_of(8, 2, precision);
  job.column_row_sampling.target_modules = {"v_proj", "down_proj"};
  job.column_row_sampling.ratio = 0.4;
  job.optimizer.epsilon = 1e-4;
  return job;
}

TEST_CASE("gradients of sampled tokens at every layout of ranks are one rank's") {
  check_layouts(job_of("fp64"), 1e-11);
}

TEST_CASE("gradients of sampled tokens at every layout, with recomputation and mini-sequences") {
  Job job = job_of("fp64");
  job.memory.activation_checkpointing = "block";
  job.memory.mini_sequence_mlp = std::to_string(3);
  job.column_row_sampling.target_modules = {"all-linear"};
  check_layouts(job, 1e-11);
}

TEST_CASE("gradients of sampled tokens of adapters at every layout, with dropout") {
  check_layouts(longspan::test::with_adapters(job_of("fp64"), GENERATE(0.0, 0.3)), 1e-11);
}

TEST_CASE("the first step draws all tokens, the second some; evaluation none") {
  const Job job = job_of("fp64");
  Job exact = job;
  exact.column_row_sampling = {};
  const longspan::test::Batches rows = longspan::test::single_rows();
  const auto plan = fixed_plan(static_cast<std::int64_t>(rows.size()), world().size(), 1);
  Step sampled(job, world(), {{}});
  Step whole(exact, world(), {{}});
  const nn::RowSampling& sampling = sampled.step.model().trained().row_sampling();
  REQUIRE(sampling.count() == 4);
  const auto factor = [&] { return sampling.factors().data<double>()[1]; };
  CHECK(std::isinf(factor()));
  const auto distance = [&](std::int64_t step) {
    sampled.run(rows, plan, step);
    whole.run(rows, plan, step);
    return longspan::test::largest_distance(sampled.step.model().trained(), false,
                                            whole.step.model().trained());
  };
  // Settled for all ranks alike, and of the whole set largest_distance has one rank's.
  if (world().size() == 1) CHECK(distance(0) < 1e-12);
  if (world().size() > 1) sampled.run(rows, plan, 0);
  const double settled = factor();
  CHECK(std::isfinite(settled));
  sampled.step.model().evaluate(
      {rows[0]->tokens, rows[0]->labels, rows[0]->positions, rows[0]->cu_seqlens});
  CHECK(factor() == settled);
  if (world().size() == 1) CHECK(distance(1) > 1e-3);
  // The same step again has the same draws.
  if (world().size() > 1) return;
  Step again(job, world(), {{}});
  again.run(rows, plan, 0);
  again.run(rows, plan, 1);
  CHECK(longspan::test::largest_distance(again.step.model().trained(), false,
                                         sampled.step.model().trained()) == 0.0);
}

}  // namespace
}  // namespace longspan::train
