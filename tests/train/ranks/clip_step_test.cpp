// Steps of clips by groups of ranks, against one rank that runs all of their micro-batches.
#include <catch2/catch.hpp>
#include <cmath>
#include <utility>

#include "tests/model/fixture.h"
#include "tests/train/ranks/step_bench.h"
#include "train/clip_corpus.h"
#include "train/clip_ranks.h"
#include "train/clip_step.h"

namespace longspan::train {
namespace {

using longspan::test::world;

ClipJob job_of(const std::string& objective) {
  ClipJob job;
  job.model.hidden_size = 16;
  job.model.num_hidden_layers = 1;
  job.model.num_attention_heads = 2;
  job.model.intermediate_size = 24;
  job.model.num_classes = 3;
  job.data.clips = {"sprites"};
  job.data.sprites = 30;
  job.data.shapes = {"5x6x10", "2x8x8", "3x4x6"};
  job.optimizer.learning_rate = 1e-3;
  job.training.steps = 3;
  job.training.precision = "fp64";
  job.batch = {.objective = objective, .clips_per_step = 10, .clips_per_micro_batch = 2};
  check(job);
  return job;
}

/// What a group's ranks do in two steps, with an update between them.
struct Run {
  Run(const ClipJob& run_job, comm::Communicator& ranks)
      : job(run_job),
        layout(clip_ranks(job, ranks.size())),
        group(clip_group(ranks, layout)),
        corpus(job),
        step(job, corpus.source(), *backend, ranks, group.get(), nullptr) {
    const int own = ranks.rank() / layout.sequence;
    for (const std::int64_t number : {0, 1}) {
      const ClipPasses passes = layout.passes(corpus.micro_batches(number), own);
      if (number == 1) step.parameters().update(0, sums.loss());
      sums = step.forward_backward(passes, number);
    }
    norm = std::sqrt(step.model().parameters().gradient_squares());
  }

  ClipJob job;
  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  ClipRanks layout;
  std::unique_ptr<comm::Communicator> group;
  ClipCorpus corpus;
  ClipStep step;
  StepSums sums;
  double norm = 0;
};

TEST_CASE("steps of clips at every layout of ranks: loss, norm and every gradient are one rank's") {
  ClipJob job = job_of(GENERATE(as<std::string>(), "next_frame", "rectified_flow"));
  const auto single = comm::make_single_communicator();
  Run expected(job, *single);
  for (int degree = 1; degree <= world().size(); ++degree) {
    if (world().size() % degree != 0) continue;
    for (const auto& [mode, placement] : {std::pair("dynamic", "auto"),
                                          {"dynamic", "frames"},
                                          {"dynamic", "places"},
                                          {"ring", "auto"}}) {
      for (const int stage : {1, 3}) {
        INFO(degree << " ranks share clips (" << mode << ", " << placement << "), stage " << stage);
        job.group_ranks = degree;
        job.sequence_mode = mode;
        job.sequence_placement = placement;
        job.parallel.zero_stage = stage;
        job.memory.activation_checkpointing = stage == 3 ? "block" : "none";
        Run found(job, world());
        CHECK(found.sums.targets == expected.sums.targets);
        CHECK(found.sums.tokens == expected.sums.tokens);
        CHECK(found.sums.flops == Approx(expected.sums.flops));
        CHECK(found.sums.loss_sum == Approx(expected.sums.loss_sum).epsilon(1e-9));
        CHECK(found.norm == Approx(expected.norm).epsilon(1e-9));
        CHECK(longspan::test::largest_distance(found.step.model().parameters(), false,
                                               expected.step.model().parameters()) <= 1e-8);
      }
    }
  }
}

TEST_CASE("the loss of a step of clips is the mean over its numbers, and evaluation has the same") {
  const ClipJob job = job_of("next_frame");
  const auto single = comm::make_single_communicator();
  const auto backend = model::test::make_backend();
  const ClipCorpus corpus(job);
  ClipStep step(job, corpus.source(), *backend, *single, nullptr, nullptr);
  const std::vector<ClipSample> samples = {{3, 0}, {4, 1}, {5, 2}};
  const StepSums sums = step.forward_backward({samples}, 0);
  const ClipStep::Errors errors = step.evaluate(samples);
  CHECK(errors.targets == sums.targets);
  CHECK(errors.model == Approx(sums.loss_sum).epsilon(1e-12));
  // A new model's head is zero: it predicts no change, as a copy does.
  CHECK(errors.copies == Approx(errors.model).epsilon(1e-6));
}

}  // namespace
}  // namespace longspan::train
