// Whoever runs which sequences with whom: loss and gradients are those of one rank. Run by ctest
// under mpirun with 1 to 4 ranks.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/base/error.h"
#include "longspan/base/random.h"
#include "longspan/plan/planner.h"
#include "tests/train/ranks/step_bench.h"
#include "train/parallel_layout.h"
#include "train/step_plan.h"

namespace longspan::train {
namespace {

using backend::Index;
using longspan::test::job_of;
using longspan::test::kVocab;
using longspan::test::world;

/// Random numbers one after another, the same on every rank.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed, base::Purpose::kTest, 1, 0) {}
  double uniform() { return random_.uniform(next_++); }
  double normal() { return random_.normal(next_++); }
  int below(int end) { return static_cast<int>(uniform() * end); }

 private:
  base::RandomStream random_;
  std::uint64_t next_ = 0;
};

struct Batch {
  longspan::test::Batches sequences;
  std::vector<std::int64_t> lengths;
};

std::shared_ptr<const data::MicroBatch> sequence_of(int length, double unmasked, Draw& draw) {
  auto sequence = std::make_shared<data::MicroBatch>();
  for (int i = 0; i < length; ++i) {
    sequence->tokens.push_back(draw.below(kVocab));
    const bool counts = draw.uniform() < unmasked;
    sequence->labels.push_back(counts ? draw.below(kVocab) : data::kIgnoredLabel);
    sequence->targets += counts ? 1 : 0;
    sequence->positions.push_back(i);
  }
  sequence->cu_seqlens = {0, length};
  return sequence;
}

/// Many short sequences, few long ones; of some all labels count, of some none. The first one has
/// gradients of everything.
Batch batch_of(std::uint64_t seed) {
  Draw draw(seed);
  Batch batch;
  const int count = 1 + draw.below(12);
  for (int i = 0; i < count; ++i) {
    const int tail = static_cast<int>(std::exp(1.2 + 1.1 * draw.normal()));
    const int length = std::clamp(tail, i == 0 ? 8 : 1, 80);
    const double unmasked = i == 0 || draw.below(3) == 0 ? 1.0 : 0.5 * draw.below(3);
    batch.sequences.push_back(sequence_of(length, unmasked, draw));
    batch.lengths.push_back(length);
  }
  return batch;
}

/// Aligned groups that share `ranks` ranks from `first` on: any, some of them left out.
void draw_groups(int first, int ranks, Draw& draw, std::vector<plan::Group>& groups) {
  if (ranks > 1 && draw.below(2) == 0) {
    draw_groups(first, ranks / 2, draw, groups);
    draw_groups(first + ranks / 2, ranks / 2, draw, groups);
  } else if (draw.below(4) > 0 || first == 0) {
    plan::Group group;
    group.first_rank = first;
    group.degree = ranks;
    groups.push_back(group);
  }
}

/// A plan that no planner would make: any groups, some of which have nothing, any sequences.
plan::StepPlan random_plan(std::size_t sequences, Draw& draw) {
  const int aligned = shard::aligned_sizes(world().size()).back();
  plan::StepPlan plan;
  plan.micro_batches.resize(1 + static_cast<std::size_t>(draw.below(4)));
  for (plan::MicroBatch& micro_batch : plan.micro_batches) {
    for (int first = 0; first < world().size(); first += aligned) {
      draw_groups(first, aligned, draw, micro_batch.groups);
    }
  }
  for (std::size_t sequence = 0; sequence < sequences; ++sequence) {
    const auto at =
        static_cast<std::size_t>(draw.below(static_cast<int>(plan.micro_batches.size())));
    auto& groups = plan.micro_batches[at].groups;
    auto& group = groups[static_cast<std::size_t>(draw.below(static_cast<int>(groups.size())))];
    group.sequences.push_back(static_cast<std::int32_t>(sequence));
  }
  return plan;
}

/// Costs in which long sequences pay to be shared and short ones do not.
plan::CostModel costs() {
  plan::CostModel costs;
  costs.ranks = world().size();
  costs.micro_batch_seconds = 1e-3;
  for (const int degree : shard::aligned_sizes(world().size())) {
    plan::GroupKind kind;
    kind.degree = degree;
    kind.fixed_seconds = 1e-3 * degree;
    kind.seconds_per_token = 1e-4 / degree + (degree > 1 ? 2e-5 : 0.0);
    kind.seconds_per_token_squared = 1e-6 / degree;
    kind.max_tokens = 90 * degree;
    costs.kinds.push_back(kind);
  }
  return costs;
}

/// One of the plans of this batch, in turn.
plan::StepPlan plan_number(int number, const Batch& batch, Draw& draw) {
  const std::vector<int> sizes = shard::aligned_sizes(world().size());
  switch (number % 4) {
    case 0:
      return plan::plan_step(batch.lengths, costs(), {.planner = plan::Planner::kFlexible});
    case 1:
      return plan::plan_step(batch.lengths, costs(), {.planner = plan::Planner::kPerMicroBatch});
    case 2:
      return fixed_plan(static_cast<std::int64_t>(batch.lengths.size()), world().size(),
                        sizes[static_cast<std::size_t>(number / 4) % sizes.size()]);
    default:
      return random_plan(batch.lengths.size(), draw);
  }
}

/// A model on some ranks, with groups of every aligned size.
struct Model {
  Model(const Job& model_job, comm::Communicator& communicator)
      : job(model_job),
        meshes(communicator, aligned_degrees(job, communicator.size())),
        step(job, *backend, communicator) {}

  double run(const plan::StepPlan& plan, const Batch& batch) {
    sums = step.forward_backward(passes_of(
        plan, meshes, [&](std::size_t number) { return batch.sequences[number]; }, policies));
    grad_norm = std::sqrt(parameters().gradient_squares());
    return sums.loss();
  }

  nn::ParameterSet& parameters() { return step.model().parameters(); }

  Job job;
  std::unique_ptr<backend::Backend> backend = backend::make_cpu_backend(std::size_t{64} << 20U);
  shard::Meshes meshes;
  TrainingStep step;
  KindPolicies policies;  // empty: the job's own
  StepSums sums;
  double grad_norm = 0;
};

bool is_mixed(const plan::StepPlan& plan) {
  return std::any_of(plan.micro_batches.begin(), plan.micro_batches.end(), [](const auto& one) {
    return std::any_of(one.groups.begin(), one.groups.end(), [&](const plan::Group& group) {
      return group.degree != one.groups.front().degree;
    });
  });
}

/// `batches` random batches, each by another plan and the models in turn, which differ in nothing
/// that may change a result.
void check_plans(const std::vector<Job>& jobs, int batches, double tolerance) {
  int mixed = 0;  // plans that have groups of several sizes side by side
  const auto alone = comm::make_single_communicator();
  Job plain = jobs.front();
  plain.parallel.zero_stage = 0;
  plain.memory = {};
  Model expected(plain, *alone);
  std::vector<std::unique_ptr<Model>> models;
  for (const Job& job : jobs) models.push_back(std::make_unique<Model>(job, world()));
  for (int number = 0; number < batches; ++number) {
    const Batch batch = batch_of(1000 + static_cast<std::uint64_t>(number));
    const auto count = static_cast<std::int64_t>(batch.lengths.size());
    expected.run(fixed_plan(count, 1, 1), batch);
    // Every model meets every kind of plan.
    const auto at = static_cast<std::size_t>(number / 4) % models.size();
    Model& found = *models[at];
    INFO("batch " << number << " of " << count << " sequences, model " << at << ", "
                  << world().size() << " ranks");
    Draw draw(static_cast<std::uint64_t>(number));
    const plan::StepPlan plan = plan_number(number, batch, draw);
    mixed += is_mixed(plan) ? 1 : 0;
    found.run(plan, batch);
    CHECK(found.sums.targets == expected.sums.targets);
    CHECK(found.sums.tokens == expected.sums.tokens);
    CHECK(found.sums.flops == Approx(expected.sums.flops));
    CHECK(std::abs(found.sums.loss() - expected.sums.loss()) <= tolerance * expected.sums.loss());
    CHECK(std::abs(found.grad_norm - expected.grad_norm) <= tolerance * expected.grad_norm);
    CHECK(longspan::test::largest_distance(found.parameters(), false, expected.parameters()) <=
          tolerance);
  }
  CHECK((mixed > batches / 10 || world().size() < 4));
}

std::vector<Job> stages_of(Job job) {
  std::vector<Job> jobs;
  for (job.parallel.zero_stage = 0; job.parallel.zero_stage <= 3; ++job.parallel.zero_stage) {
    jobs.push_back(job);
  }
  return jobs;
}

TEST_CASE("any plan: loss, gradients and their norm are one rank's") {
  SECTION("more ranks than key-value heads") {
    check_plans(stages_of(job_of(8, 2, "fp32")), 80, 1e-5);
  }
  SECTION("one key-value head") { check_plans(stages_of(job_of(4, 1, "fp32")), 64, 1e-5); }
  SECTION("rings of Ulysses groups") { check_plans(stages_of(job_of(2, 2, "fp32")), 64, 1e-5); }
  SECTION("fp64") { check_plans(stages_of(job_of(6, 3, "fp64")), 64, 1e-12); }
}

TEST_CASE("any plan, with recomputation and mini-sequences") {
  Job job = job_of(4, 2, "fp64");
  job.memory.mini_sequence_mlp = std::to_string(3);
  job.memory.mini_sequence_lm_head = std::to_string(2);
  std::vector<Job> jobs;
  for (const int stage : {1, 3}) {
    job.parallel.zero_stage = stage;
    for (const char* level : {"block", "block_keep_attention"}) {
      job.memory.activation_checkpointing = level;
      jobs.push_back(job);
    }
  }
  check_plans(jobs, 64, 1e-12);
}

TEST_CASE("a plan of all sizes of groups: each has its turn, and each sequence") {
  for (const int ranks : {1, 2, 3, 4, 12, 16}) {
    const plan::StepPlan plan = plan_of_all_sizes({3, 9, 1, 5, 8, 2, 2, 2, 7, 7}, ranks);
    std::vector<int> degrees;
    std::vector<int> uses(10);
    for (const plan::MicroBatch& micro_batch : plan.micro_batches) {
      int end = 0;
      for (const plan::Group& group : micro_batch.groups) {
        CHECK(group.first_rank >= end);
        CHECK(group.first_rank % group.degree == 0);
        end = group.first_rank + group.degree;
        degrees.push_back(group.degree);
        for (const std::int32_t sequence : group.sequences)
          ++uses[static_cast<std::size_t>(sequence)];
      }
      CHECK(end <= ranks);
    }
    CHECK(uses == std::vector<int>(10, 1));
    for (const int size : shard::aligned_sizes(ranks)) {
      CHECK(std::count(degrees.begin(), degrees.end(), size) > 0);
    }
  }
  CHECK(plan_of_all_sizes({4}, 4).micro_batches.size() == 1);
}

TEST_CASE("any plan, in which groups keep different things for the backward") {
  Job job = job_of(4, 2, "fp64");
  job.parallel.zero_stage = GENERATE(1, 3);
  job.memory.activation_checkpointing = GENERATE(as<std::string>(), "none", "block");
  const auto alone = comm::make_single_communicator();
  Job plain = job_of(4, 2, "fp64");
  plain.parallel.zero_stage = 0;
  Model expected(plain, *alone);
  Model found(job, world());
  found.policies =
      policies_of(job, {"none", "", "block", "block_keep_attention", "1: block_keep_attention"});
  REQUIRE(found.policies[1] == nullptr);
  for (int number = 0; number < 12; ++number) {
    INFO("batch " << number);
    const Batch batch = batch_of(2000 + static_cast<std::uint64_t>(number));
    expected.run(fixed_plan(static_cast<std::int64_t>(batch.lengths.size()), 1, 1), batch);
    Draw draw(static_cast<std::uint64_t>(number));
    plan::StepPlan plan = plan_number(number, batch, draw);
    for (plan::MicroBatch& micro_batch : plan.micro_batches) {
      for (plan::Group& group : micro_batch.groups) {
        group.kind = draw.below(static_cast<int>(found.policies.size()));
      }
    }
    found.run(plan, batch);
    CHECK(std::abs(found.sums.loss() - expected.sums.loss()) <= 1e-12 * expected.sums.loss());
    CHECK(longspan::test::largest_distance(found.parameters(), false, expected.parameters()) <=
          1e-12);
  }
  plan::StepPlan unknown = fixed_plan(1, world().size(), 1);
  unknown.micro_batches[0].groups[0].kind = 5;
  const auto read = [](std::size_t) { return empty_micro_batch(); };
  if (world().rank() == 0) {
    CHECK_THROWS_AS(passes_of(unknown, found.meshes, read, found.policies), base::InternalError);
  }
  CHECK_THROWS_AS(policies_of(job, {"auto"}), base::InputError);
}

TEST_CASE(
    "the fixed layout as a plan: rows in turn, and nobody waits for a row that is not there") {
  const plan::StepPlan plan = fixed_plan(5, 4, 2);
  REQUIRE(plan.micro_batches.size() == 3);
  CHECK(plan.micro_batches[0].groups.size() == 2);
  CHECK(plan.micro_batches[1].groups[1].first_rank == 2);
  CHECK(plan.micro_batches[1].groups[1].sequences == std::vector<std::int32_t>{3});
  CHECK(plan.micro_batches[2].groups.size() == 1);
  CHECK(fixed_plan(0, 4, 2).micro_batches.empty());
}

}  // namespace
}  // namespace longspan::train
