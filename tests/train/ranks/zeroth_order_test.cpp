// Steps without a backward: every layout of ranks against one rank, and what they come to.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "tests/model/fixture.h"
#include "tests/train/ranks/step_bench.h"
#include "train/step_plan.h"
#include "train/training_step.h"

namespace longspan::train {
namespace {

using longspan::test::all_degrees;
using longspan::test::largest_distance;
using longspan::test::row_of;
using longspan::test::world;
using shard::SequenceDegrees;

Job zeroth_order(Job job, const char* name) {
  job.optimizer.name = name;
  job.optimizer.lozo_interval = 2;
  return job;
}

/// Adapters beside a frozen base.
Job with_adapters(Job job) {
  job.adapter.type = "lora";
  job.adapter.lora.rank = 3;
  return job;
}

struct Part {
  Part(const Job& part_job, comm::Communicator& ranks,
       const std::vector<SequenceDegrees>& degrees = {{}})
      : job(part_job), meshes(ranks, degrees), step(job, *backend, ranks) {}

  void run(const std::vector<RankPass>& passes, std::int64_t number) {
    loss = step.forward_backward(passes, number).loss();
    update = step.update(number, loss);
  }

  nn::ParameterSet& trained() { return step.model().trained(); }

  Job job;
  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  shard::Meshes meshes;
  TrainingStep step;
  double loss = 0;
  StepUpdate update;
};

void check_same(Part& found, Part& expected, double tolerance) {
  CHECK(std::abs(found.loss - expected.loss) <= tolerance * expected.loss);
  CHECK(std::abs(found.update.grad_norm - expected.update.grad_norm) <=
        10 * tolerance * (1 + expected.update.grad_norm));
  CHECK(largest_distance(found.trained(), true, expected.trained()) <= tolerance);
}

TEST_CASE("without a backward: any ranks and ZeRO stage train as one rank does") {
  const char* const name = GENERATE("mezo", "lozo");
  const std::string precision = GENERATE(as<std::string>(), "fp32", "bf16");
  const bool adapts = GENERATE(false, true);
  Job job = zeroth_order(longspan::test::small_job(GENERATE(false, true), 0), name);
  if (adapts) job = with_adapters(job);
  job.training.precision = precision;
  const auto alone = comm::make_single_communicator();
  for (job.parallel.zero_stage = 0; job.parallel.zero_stage <= 3; ++job.parallel.zero_stage) {
    INFO(name << ", " << precision << ", stage " << job.parallel.zero_stage);
    Part expected(job, *alone);
    Part found(job, world());
    CHECK_FALSE(found.trained().trains());
    for (std::int64_t number = 0; number < 4; ++number) {
      const auto batches = longspan::test::batches_of_ranks(job, world().size(), 0,
                                                            static_cast<std::uint64_t>(number));
      expected.run(longspan::test::passes_of(longspan::test::joined(batches)), number);
      found.run(longspan::test::passes_of(longspan::test::padded(batches, world().rank())), number);
      check_same(found, expected, 1e-5);
    }
    CHECK(found.backend->ledger().peak(backend::MemoryTag::kGradients) == 0);
    CHECK(found.backend->ledger().peak(backend::MemoryTag::kSaved) == 0);
  }
}

TEST_CASE("without a backward: ranks that share rows train as one rank does") {
  const char* const name = GENERATE("mezo", "lozo");
  Job job = zeroth_order(longspan::test::job_of(8, 2, "fp64"), name);
  job.memory.mini_sequence_mlp = "3";
  const std::vector<std::shared_ptr<const data::MicroBatch>> rows = {
      row_of({37}, 0.8, 1), row_of({5, 1, 12, 3}, 1.0, 2), row_of({9, 8}, 0.0, 3)};
  const auto read = [&](std::size_t row) { return rows[row]; };
  const auto count = static_cast<std::int64_t>(rows.size());
  const auto alone = comm::make_single_communicator();
  for (const SequenceDegrees& degrees : all_degrees()) {
    for (const int stage : {0, 3}) {
      INFO(degrees.ulysses << " x " << degrees.ring << ", stage " << stage);
      job.parallel.zero_stage = stage;
      Part expected(job, *alone);
      Part found(job, world(), {degrees});
      for (std::int64_t number = 0; number < 2; ++number) {
        expected.run(passes_of(fixed_plan(count, 1, 1), expected.meshes, read), number);
        found.run(passes_of(fixed_plan(count, world().size(), degrees.ranks()), found.meshes, read),
                  number);
        check_same(found, expected, 1e-9);
      }
    }
  }
}

TEST_CASE("without a backward: own weights are bit for bit as they were before the update") {
  Job job = zeroth_order(longspan::test::small_job(false, GENERATE(0, 1, 2, 3)),
                         GENERATE("mezo", "lozo"));
  job.training.precision = GENERATE(as<std::string>(), "fp32", "bf16");
  Part part(job, world());
  const auto batches = longspan::test::batches_of_ranks(job, world().size(), 0, 0);
  const auto passes = longspan::test::passes_of(longspan::test::padded(batches, world().rank()));
  const auto own = [&] {
    std::vector<std::vector<double>> values;
    for (const nn::OwnRange& range : part.trained().own_ranges()) {
      values.push_back(model::test::values(*part.backend, part.trained().own_weight(range)));
    }
    return values;
  };
  const auto all = [&] { return model::test::values(*part.backend, part.trained().weights()); };
  const auto own_before = own();
  const auto all_before = all();
  const auto loss = part.step.forward_backward(passes, 7).loss();
  CHECK(own() == own_before);
  // A step that is skipped leaves all as it was.
  CHECK(part.step.update(7, std::nan("")).skipped);
  CHECK(all() == all_before);
  CHECK(part.step.optimizer().updates() == 0);
  CHECK(std::abs(part.step.forward_backward(passes, 7).loss() - loss) == 0);
  CHECK_FALSE(part.step.update(7, loss).skipped);
  CHECK(all() != all_before);
}

TEST_CASE("the loss is the mean of two, and the norm is the slope along the direction") {
  Job job = zeroth_order(longspan::test::job_of(4, 2, "fp64"), "mezo");
  job.optimizer.perturbation = 1e-5;  // the slope's error is of its square
  const auto alone = comm::make_single_communicator();
  Job with_gradients = job;
  with_gradients.optimizer.name = "adamw";
  Part part(job, *alone);
  Part reference(with_gradients, *alone);
  const std::vector<RankPass> passes = {{row_of({17, 9}, 1.0, 1)}, {row_of({30}, 0.5, 2)}};
  const double loss = part.step.forward_backward(passes, 5).loss();
  CHECK(loss == Approx(reference.step.forward_backward(passes).loss()).epsilon(1e-4));
  // <gradient, z>, with the z of the step.
  auto& probe = dynamic_cast<optim::Mezo&>(part.step.optimizer());
  const auto before = model::test::values(*part.backend, part.trained().weights());
  probe.move(1.0);
  const auto moved = model::test::values(*part.backend, part.trained().weights());
  probe.move_back();
  const auto gradient = model::test::values(*reference.backend, reference.trained().gradients());
  double slope = 0;
  for (std::size_t i = 0; i < gradient.size(); ++i) slope += gradient[i] * (moved[i] - before[i]);
  const auto update = part.step.update(5, loss);
  CHECK(update.grad_norm == Approx(std::abs(slope)).epsilon(1e-4));
  CHECK(update.lr > 0);
}

TEST_CASE("a slope beyond optimizer.max_grad_norm is cut to it") {
  Job job = zeroth_order(longspan::test::job_of(4, 2, "fp64"), "mezo");
  job.optimizer.weight_decay = 0;
  job.optimizer.max_grad_norm = 0;
  const auto alone = comm::make_single_communicator();
  const std::vector<RankPass> passes = {{row_of({17, 9}, 1.0, 1)}};
  const auto change_with = [&](double most, double& slope) {
    job.optimizer.max_grad_norm = most;
    Part part(job, *alone);
    const auto before = model::test::values(*part.backend, part.trained().weights());
    part.run(passes, 3);
    slope = part.update.grad_norm;
    auto change = model::test::values(*part.backend, part.trained().weights());
    double squares = 0;
    for (std::size_t i = 0; i < change.size(); ++i) {
      squares += (change[i] - before[i]) * (change[i] - before[i]);
    }
    return std::sqrt(squares);
  };
  double slope = 0;
  double told = 0;
  const double free = change_with(0, slope);
  CHECK(change_with(slope / 4, told) == Approx(free / 4).epsilon(1e-5));
  CHECK(told == slope);  // before clipping
  CHECK(change_with(slope * 2, told) == Approx(free).epsilon(1e-9));
}

TEST_CASE("without a backward the loss of a tiny model falls") {
  const bool adapts = GENERATE(false, true);
  Job job = zeroth_order(longspan::test::job_of(4, 2, "fp32"), GENERATE("mezo", "lozo"));
  if (adapts) job = with_adapters(job);
  job.optimizer.learning_rate = adapts ? 1e-1 : 1e-2;
  job.optimizer.weight_decay = 0;
  job.optimizer.lozo_interval = 20;
  job.schedule.name = "constant";
  Part part(job, world());
  const std::vector<RankPass> passes = {{row_of({17, 9}, 1.0, 1)}};
  part.run(passes, 0);
  const double first = part.loss;
  for (std::int64_t number = 1; number < 300; ++number) part.run(passes, number);
  INFO(job.optimizer.name << (adapts ? ", adapters: " : ": ") << first << " to " << part.loss);
  CHECK(part.loss < first - 0.2);
}

}  // namespace
}  // namespace longspan::train
