#include "tests/train/ranks/layout_bench.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/model/fixture.h"
#include "train/step_plan.h"

namespace longspan::test {

Batches packed_rows() {
  return {row_of({37}, 1.0, 1), row_of({5, 1, 12, 3}, 1.0, 2), row_of({9, 8}, 1.0, 3),
          row_of({2}, 1.0, 4)};
}

Batches single_rows() {
  return {row_of({23}, 1.0, 1), row_of({5}, 1.0, 2), row_of({40}, 1.0, 3), row_of({1}, 1.0, 4),
          row_of({11}, 1.0, 5)};
}

std::vector<std::int64_t> lengths_of(const Batches& rows) {
  std::vector<std::int64_t> lengths;
  for (const auto& row : rows) lengths.push_back(static_cast<std::int64_t>(row->tokens.size()));
  return lengths;
}

Step::Step(const train::Job& step_job, comm::Communicator& ranks,
           const std::vector<shard::SequenceDegrees>& degrees)
    : job(step_job),
      backend(model::test::make_backend()),
      meshes(ranks, degrees),
      step(job, *backend, ranks) {
  if (step.model().adapters() == nullptr) return;
  nn::ParameterSet& set = *step.model().adapters();
  for (int number = 0; number < static_cast<int>(set.parameters().size()); ++number) {
    set.begin_uniform(number, 0.2);
  }
  set.initialise(6, 0.0);
  step.optimizer().reset_master();
}

void Step::run(const Batches& rows, const plan::StepPlan& plan, std::int64_t number) {
  const auto read = train::numbered([&](std::size_t row) { return rows[row]; }, lengths_of(rows));
  loss = step.forward_backward(train::passes_of(plan, meshes, read), number).loss();
  grad_norm = std::sqrt(step.model().trained().gradient_squares());
}

void check_same(Step& found, Step& expected, double tolerance) {
  CHECK(std::abs(found.loss - expected.loss) <= tolerance * expected.loss);
  CHECK(std::abs(found.grad_norm - expected.grad_norm) <= tolerance * expected.grad_norm);
  CHECK(largest_distance(found.step.model().trained(), false, expected.step.model().trained()) <=
        tolerance);
}

train::Job with_adapters(train::Job job, double dropout) {
  job.adapter.type = "lora";
  job.adapter.lora.rank = 3;
  job.adapter.lora.dropout = dropout;
  return job;
}

void check_layouts(train::Job job, double tolerance) {
  const auto alone = comm::make_single_communicator();
  const Batches rows = packed_rows();
  const auto count = static_cast<std::int64_t>(rows.size());
  for (const shard::SequenceDegrees degrees : all_degrees()) {
    for (job.parallel.zero_stage = 0; job.parallel.zero_stage <= 3; ++job.parallel.zero_stage) {
      INFO(degrees.ulysses << " x " << degrees.ring << " of " << world().size()
                           << " ranks, ZeRO stage " << job.parallel.zero_stage);
      Step expected(job, *alone, {{}});
      Step found(job, world(), {degrees});
      for (std::int64_t step = 0; step < 2; ++step) {
        expected.run(rows, train::fixed_plan(count, 1, 1), step);
        found.run(rows, train::fixed_plan(count, world().size(), degrees.ranks()), step);
        check_same(found, expected, tolerance);
        expected.step.update(step, expected.loss);
        found.step.update(step, found.loss);
      }
      const auto distance = [](nn::ParameterSet& one, nn::ParameterSet& other) {
        return largest_distance(one, true, other);
      };
      model::Decoder& own = found.step.model();
      model::Decoder& whole = expected.step.model();
      CHECK(distance(own.trained(), whole.trained()) <= 10 * tolerance);
      // What is packed is not there to be compared; the next step's loss would show a difference.
      if (own.adapters() != nullptr && !own.parameters().packs()) {
        CHECK(distance(own.parameters(), whole.parameters()) == 0.0);
      }
    }
  }
}

}  // namespace longspan::test
