// ZeRO against one plain rank, at as many ranks as the test is run with.
#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/base/error.h"
#include "tests/model/fixture.h"
#include "tests/train/ranks/counting_communicator.h"
#include "tests/train/ranks/step_bench.h"

namespace longspan {
namespace {

using comm::Collective;
using test::Batches;
using test::world;

/// One rank that has everything and does all the work.
struct Plain {
  explicit Plain(const train::Job& plain_job)
      : job(plain_job), step(job, *backend, *communicator) {}

  train::Job job;
  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  std::unique_ptr<comm::Communicator> communicator = comm::make_single_communicator();
  train::TrainingStep step;
};

/// This rank of the world.
struct Divided {
  explicit Divided(const train::Job& divided_job)
      : job(divided_job), step(job, *backend, counted) {}

  nn::ParameterSet& parameters() { return step.model().parameters(); }

  train::Job job;
  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  test::CountingCommunicator counted{world()};
  train::TrainingStep step;
};

/// Two steps on both: sums, gradients and norm before the optimizer, weights behind it.
void check_against_plain(const train::Job& job, int first) {
  Plain plain(job);
  Divided divided(job);
  nn::ParameterSet& expected = plain.step.model().parameters();
  CHECK(test::largest_distance(divided.parameters(), true, expected) == 0.0);
  for (std::uint64_t step = 0; step < 2; ++step) {
    INFO("step " << step);
    const auto batches = test::batches_of_ranks(job, world().size(), first, step);
    const auto sums = plain.step.forward_backward(test::passes_of(test::joined(batches)));
    const auto found =
        divided.step.forward_backward(test::passes_of(test::padded(batches, world().rank())));
    CHECK(found.targets == sums.targets);
    CHECK(found.tokens == sums.tokens);
    CHECK(found.loss_sum == Approx(sums.loss_sum).epsilon(1e-5));
    CHECK(test::largest_distance(divided.parameters(), false, expected) <= 1e-5);

    const auto update = plain.step.update(static_cast<std::int64_t>(step), 1.0);
    const auto found_update = divided.step.update(static_cast<std::int64_t>(step), 1.0);
    CHECK(found_update.grad_norm == Approx(update.grad_norm).epsilon(1e-5));
    CHECK(found_update.skipped == update.skipped);
    CHECK(test::largest_distance(divided.parameters(), true, expected, test::is_no_bias) <= 1e-5);
    // A bias begins at 0 and is its updates alone, in which Adam divides each gradient by its own
    // size, also one that is little more than rounding (a key's, which softmax hardly sees).
    CHECK(test::largest_distance(divided.parameters(), true, expected) <= 1e-4);
    if (divided.parameters().splits_weights()) continue;
    // Behind an update every rank has all of them.
    CHECK(model::test::relative_distance(
              model::test::values(*divided.backend, divided.parameters().weights()),
              model::test::values(*plain.backend, expected.weights())) <= 1e-5);
  }
}

TEST_CASE("loss, every gradient, norm and weights are those of one plain rank") {
  const int stage = GENERATE(0, 1, 2, 3);
  const model::ModelConfig config = GENERATE(from_range(model::test::small_configs()));
  const int first = GENERATE(0, 1, 2, 3);
  INFO("stage " << stage << ", " << config.model_type
                << (*config.tie_word_embeddings ? ", tied" : ", untied") << ", first part "
                << first);
  check_against_plain(test::small_job(config, stage), first);
}

TEST_CASE("the same with checkpointing and mini-sequences") {
  train::Job job =
      test::small_job(GENERATE(from_range(model::test::small_configs())), GENERATE(2, 3));
  job.memory.activation_checkpointing =
      GENERATE(as<std::string>(), "block", "block_keep_attention");
  job.memory.mini_sequence_mlp = GENERATE(as<std::string>(), "3", "1KiB");
  job.memory.mini_sequence_lm_head = std::string("5");
  check_against_plain(job, 0);
}

/// Own elements and others' of a unit, in bytes to gather or to share out.
struct UnitBytes {
  std::uint64_t gather = 0;
  std::uint64_t share = 0;
};

UnitBytes bytes_of(const nn::ParameterSet& parameters, int unit) {
  const auto others = static_cast<std::uint64_t>(world().size() - 1);
  const auto own = static_cast<std::uint64_t>(parameters.partition().own(unit).size());
  const auto whole = static_cast<std::uint64_t>(parameters.partition().unit(unit).size());
  return {4 * own * others, 4 * (whole - own)};
}

TEST_CASE("what is sent is the formulas'") {
  const int stage = GENERATE(1, 2, 3);
  const model::ModelConfig config = GENERATE(from_range(model::test::small_configs()));
  const bool tied = *config.tie_word_embeddings;
  Divided divided(test::small_job(config, stage));
  if (world().size() == 1) return;
  const auto batches = test::batches_of_ranks(divided.job, world().size(), 0, 0);
  const Batches mine = test::padded(batches, world().rank());
  const comm::Traffic before = world().traffic();
  divided.step.forward_backward(test::passes_of(mine));
  const comm::Traffic between = world().traffic();
  divided.step.update(0, 1.0);
  const comm::Traffic after = world().traffic();

  const auto passes = static_cast<std::uint64_t>(mine.size());
  const int units = divided.parameters().partition().units();
  std::uint64_t gathered = 0;
  std::uint64_t shared = 0;
  std::uint64_t once = 0;
  for (int unit = 0; unit < units; ++unit) {
    const UnitBytes bytes = bytes_of(divided.parameters(), unit);
    const bool is_embedding = unit == 0;
    const bool is_head = unit == units - 1;
    const std::uint64_t openings = is_head || (is_embedding && !tied) ? 1 : 2;
    gathered += stage == 3 ? passes * openings * bytes.gather : 0;
    shared += stage == 1 ? bytes.share : passes * (is_embedding && tied ? 2 : 1) * bytes.share;
    once += stage == 3 ? 0 : bytes.gather;
  }
  CHECK(between[Collective::kAllGather] - before[Collective::kAllGather] == gathered);
  CHECK(between[Collective::kReduceScatter] - before[Collective::kReduceScatter] == shared);
  CHECK(after[Collective::kAllGather] - between[Collective::kAllGather] == once);
  CHECK(after[Collective::kReduceScatter] == between[Collective::kReduceScatter]);
  CHECK(after.total() - before.total() == gathered + shared + once);
}

TEST_CASE("stage 3 gathers a block twice a micro-batch, and not in a mini-sequence") {
  train::Job job = test::small_job(false, 3);
  job.memory.activation_checkpointing = GENERATE(as<std::string>(), "none", "block");
  job.memory.mini_sequence_mlp = GENERATE(as<std::string>(), "1", "7");
  job.memory.mini_sequence_lm_head = std::string("6");
  Divided divided(job);
  if (world().size() == 1) return;
  const auto batches = test::batches_of_ranks(job, world().size(), 0, 0);
  const Batches mine = test::padded(batches, world().rank());
  divided.step.forward_backward(test::passes_of(mine));
  // The blocks are alike, and nothing else is as large as they are.
  const backend::Index block = divided.parameters().partition().unit(1).size();
  std::size_t of_blocks = 0;
  for (const auto& call : divided.counted.gathers()) {
    of_blocks += call.elements == block ? 1 : 0;
    CHECK(call.place.find("mlp") == std::string::npos);
    CHECK(call.place.find("attention") == std::string::npos);
  }
  const auto layers = static_cast<std::size_t>(job.model.num_hidden_layers);
  CHECK(of_blocks == 2 * layers * mine.size());
  CHECK(divided.counted.gathers().size() == (2 * layers + 2) * mine.size());
  CHECK(divided.counted.reductions().size() == (layers + 2) * mine.size());
}

TEST_CASE("nothing of a unit is left behind, and at most one is ahead") {
  Divided divided(test::small_job(true, 3));
  const backend::Ledger& ledger = divided.backend->ledger();
  const std::size_t weights = ledger.live(backend::MemoryTag::kWeights);
  const std::size_t gradients = ledger.live(backend::MemoryTag::kGradients);
  const auto batches = test::batches_of_ranks(divided.job, world().size(), 0, 0);
  divided.step.forward_backward(test::passes_of(test::padded(batches, world().rank())));
  const Batches one = test::joined(batches);
  divided.step.evaluate({one[0]});
  CHECK(ledger.live(backend::MemoryTag::kWeights) == weights);
  CHECK(ledger.live(backend::MemoryTag::kGradients) == gradients);
  if (world().size() == 1) return;
  const shard::Partition& partition = divided.parameters().partition();
  const auto unit = [&](int number) {
    return 4 * static_cast<std::size_t>(partition.unit(number).size());
  };
  // Most at once: a block and the next one, or norm, head and the last block.
  const std::size_t most = std::max(2 * unit(1), unit(0) + unit(4) + unit(3));
  CHECK(ledger.peak(backend::MemoryTag::kWeights) <= weights + most + 3 * 64);
}

TEST_CASE("units are opened and closed in turn at every stage") {
  for (const int stage : {0, 1, 2, 3}) {
    INFO("stage " << stage);
    Divided divided(test::small_job(false, stage));
    nn::ParameterSet& parameters = divided.parameters();
    CHECK_THROWS_AS(parameters.close(1), base::InternalError);
    parameters.open(1, nn::Use::kWeights);
    CHECK_THROWS_AS(parameters.open(1, nn::Use::kWeights), base::InternalError);
    parameters.close(1);
    CHECK_THROWS_AS(parameters.close(1), base::InternalError);
  }
}

TEST_CASE("views of a unit that is not open are refused") {
  if (world().size() == 1) return;
  Divided divided(test::small_job(false, 3));
  nn::ParameterSet& parameters = divided.parameters();
  CHECK_THROWS_AS(parameters.weight(0), base::InternalError);
  CHECK_THROWS_AS(parameters.gradient(0), base::InternalError);
  parameters.open(0, nn::Use::kWeights, 1);
  CHECK(parameters.weight(0).defined());
  CHECK_THROWS_AS(parameters.gradient(0), base::InternalError);
  CHECK_THROWS_AS(parameters.weight(1), base::InternalError);
  parameters.close(0);
  parameters.open(1, nn::Use::kBoth);
  CHECK(parameters.gradient(1).defined());
  parameters.close(1);
  CHECK_THROWS_AS(parameters.weight(1), base::InternalError);
}

}  // namespace
}  // namespace longspan
