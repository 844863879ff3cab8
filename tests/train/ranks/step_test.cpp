#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/base/error.h"
#include "longspan/base/random.h"
#include "tests/train/ranks/step_bench.h"
#include "train/parallel_layout.h"
#include "train/step_plan.h"
#include "train/training_step.h"

// Run by ctest under mpirun with 1 to 4 ranks: a whole step at every layout against one rank.
namespace longspan::train {
namespace {

using backend::Index;
using longspan::test::all_degrees;
using longspan::test::job_of;
using longspan::test::row_of;
using longspan::test::world;
using shard::SequenceDegrees;
using Rows = std::vector<std::shared_ptr<const data::MicroBatch>>;

/// Four rows of a step: packed and not, of odd and unequal lengths, one with few labels, one with
/// none, one shorter than there are ranks.
Rows rows_of_step() {
  return {row_of({37}, 1.0, 1), row_of({5, 1, 12, 3}, 0.1, 2), row_of({9, 8}, 0.0, 3),
          row_of({2}, 1.0, 4)};
}

/// One step of these ranks, as far as its gradients.
struct Step {
  Step(const Job& step_job, comm::Communicator& communicator, SequenceDegrees degrees)
      : job(step_job),
        meshes(communicator, {degrees}),
        step(job, *backend, communicator, host.get()) {
    const Rows all = rows_of_step();
    std::vector<std::int64_t> lengths;
    for (const auto& row : all) lengths.push_back(static_cast<std::int64_t>(row->tokens.size()));
    const auto read = numbered([&](std::size_t row) { return all[row]; }, lengths);
    const plan::StepPlan plan =
        fixed_plan(static_cast<std::int64_t>(all.size()), communicator.size(), degrees.ranks());
    const auto passes = passes_of(plan, meshes, read);
    loss = step.forward_backward(passes).loss();
    grad_norm = std::sqrt(parameters().gradient_squares());
  }

  nn::ParameterSet& parameters() { return step.model().parameters(); }

  Job job;
  std::unique_ptr<backend::Backend> backend = backend::make_cpu_backend(std::size_t{64} << 20U);
  std::unique_ptr<backend::Backend> host = backend::make_cpu_backend(std::size_t{64} << 20U);
  shard::Meshes meshes;
  TrainingStep step;
  double loss = 0;
  double grad_norm = 0;
};

/// Against one rank that keeps everything, if `plain` says so, else against one of the same job.
void check_layouts(Job job, double tolerance, bool plain = false) {
  const auto alone = comm::make_single_communicator();
  Job reference = job;
  if (plain) reference.memory = {};
  Step expected(reference, *alone, {});
  for (const SequenceDegrees degrees : all_degrees()) {
    if (degrees.ulysses > 1 && job.memory.recomputes_attention()) continue;
    for (job.parallel.zero_stage = 0; job.parallel.zero_stage <= 3; ++job.parallel.zero_stage) {
      INFO(degrees.ulysses << " x " << degrees.ring << " of " << world().size()
                           << " ranks, ZeRO stage " << job.parallel.zero_stage);
      Step found(job, world(), degrees);
      CHECK(std::abs(found.loss - expected.loss) <= tolerance * expected.loss);
      CHECK(std::abs(found.grad_norm - expected.grad_norm) <= tolerance * expected.grad_norm);
      CHECK(longspan::test::largest_distance(found.parameters(), false, expected.parameters()) <=
            tolerance);
    }
  }
}

TEST_CASE("every layout of ranks: loss, gradients and their norm are one rank's") {
  const auto [heads, kv_heads] =
      GENERATE(std::pair<Index, Index>{8, 2}, std::pair<Index, Index>{7, 7},
               std::pair<Index, Index>{7, 1}, std::pair<Index, Index>{6, 3});
  SECTION("fp32") { check_layouts(job_of(heads, kv_heads, "fp32"), 1e-5); }
  SECTION("fp64") { check_layouts(job_of(heads, kv_heads, "fp64"), 1e-12); }
}

TEST_CASE("every layout of ranks, of GPT-2") {
  const Index heads = GENERATE(8, 7);
  SECTION("fp32") { check_layouts(job_of(heads, heads, "fp32", "gpt2"), 1e-5); }
  SECTION("fp64") { check_layouts(job_of(heads, heads, "fp64", "gpt2"), 1e-12); }
}

TEST_CASE("every layout of ranks, with recomputation and mini-sequences") {
  Job job = GENERATE(job_of(8, 2, "fp64"), job_of(8, 8, "fp64", "gpt2"));
  job.memory.activation_checkpointing =
      GENERATE(std::string("block"), std::string("block_keep_attention"));
  job.memory.mini_sequence_mlp = std::to_string(3);
  job.memory.mini_sequence_lm_head = std::to_string(2);
  check_layouts(job, 1e-12);
}

TEST_CASE("every layout of ranks, with slots in 8-bit codes") {
  Job job = GENERATE(job_of(8, 2, "fp64"), job_of(6, 3, "fp64"), job_of(8, 8, "fp64", "gpt2"));
  job.memory.saved_rounding = GENERATE("nearest", "stochastic");
  SECTION("of everything") { job.memory.saved_inputs = model::SlotTexts::all("int8"); }
  SECTION("of what a level keeps, where others keep all") {
    job.memory.activation_checkpointing = "1: block_keep_attention";
    job.memory.saved_inputs = {"int8_rows", "0: int8_rows", "0: int8", "int8", "full"};
  }
  check_layouts(job, 1e-12);
}

TEST_CASE("every layout of ranks, with slots in parts, on the host and made again") {
  Job job = GENERATE(job_of(8, 2, "fp64"), job_of(7, 7, "fp64", "gpt2"));
  job.memory.mini_sequence_lm_head = std::to_string(3);
  job.memory.saved_inputs = GENERATE(
      model::SlotTexts{"0.3 host | full", "0.5 full | host", "0.2 host | 0.3 full | host",
                       "0.9 host | full", "0.6 host | recompute"},
      model::SlotTexts{"host", "0.5 host | full", "0.4 full | recompute", "host", "recompute"},
      model::SlotTexts{"full", "full", "0: recompute", "full", "1: 0.1 recompute | full"});
  check_layouts(job, 1e-12, /*plain=*/true);
}

TEST_CASE("every layout of ranks, in bfloat16, to its precision") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 20U);
  if (!backend->supports(base::DType::kBFloat16, nullptr)) {
    WARN("this processor has no bfloat16");
    return;
  }
  check_layouts(GENERATE(job_of(8, 2, "bf16"), job_of(8, 8, "bf16", "gpt2")), 0.03);
}

TEST_CASE("parallel layout: what a job says, and what it leaves to us") {
  Job job = job_of(8, 2, "fp32");
  job.training.micro_batch_tokens = 100;
  job.training.tokens_per_step = 400;  // four rows
  const auto layout_of = [&job](const std::string& sequence, std::int64_t data, int ranks) {
    job.parallel.sequence = sequence;
    job.parallel.data = data;
    return parallel_layout(job, ranks);
  };
  CHECK(layout_of("auto", 0, 4).data == 4);
  CHECK(layout_of("auto", 0, 8).sequence ==
        SequenceDegrees{2, 1});  // as few as leave no group idle
  CHECK(layout_of("auto", 0, 12).sequence == SequenceDegrees{3, 1});
  CHECK(layout_of("auto", 2, 12).sequence == SequenceDegrees{6, 1});
  CHECK(layout_of("8", 0, 16).data == 2);
  CHECK(layout_of("16", 0, 16).sequence == SequenceDegrees{8, 2});  // there are 8 heads
  CHECK(layout_of("12", 0, 12).sequence == SequenceDegrees{6, 2});
  CHECK(layout_of("2x4", 0, 16).sequence == SequenceDegrees{2, 4});
  CHECK(layout_of("2x4", 2, 16).data == 2);
  CHECK_THROWS_AS(layout_of("3", 0, 4), base::InputError);
  CHECK_THROWS_AS(layout_of("2", 3, 4), base::InputError);
  CHECK_THROWS_AS(layout_of("auto", 3, 4), base::InputError);
  CHECK_THROWS_AS(layout_of("1", 0, 8), base::InputError);  // eight groups, four rows
  for (const char* wrong : {"", "0", "-1", "x2", "2x", "2x0", "2x2x2", "two", "99999999", "4 "}) {
    INFO(wrong);
    CHECK_THROWS_AS(layout_of(wrong, 0, 4), base::InputError);
  }
  CHECK(layout_of("1", 0, 3).rows_of(job, 0) == 2);
  CHECK(layout_of("1", 0, 3).rows_of(job, 2) == 1);
}

}  // namespace
}  // namespace longspan::train
