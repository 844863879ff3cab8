#include "longspan/train/verify.h"

#include <catch2/catch.hpp>

#include "tests/train/ranks/step_bench.h"
#include "train/shrink.h"

namespace longspan::train {
namespace {

Comparison compare_with(const Job& job, const Job& oracle) {
  const auto batches = test::batches_of_ranks(job, 4, 0, 0);
  return compare(job, oracle, test::joined(batches), test::world());
}

TEST_CASE("verify: a layout that is right agrees with one rank") {
  Job job = test::small_job(true, GENERATE(0, 1, 3));
  job.memory.activation_checkpointing = GENERATE(as<std::string>(), "none", "block");
  job.training.micro_batch_tokens = 1;
  job.training.tokens_per_step = 6;  // what batches_of_ranks makes for four
  job.parallel.sequence = "auto";
  const Comparison comparison = compare_with(job, plain(job));
  CHECK(comparison.agrees());
  CHECK(comparison.gradients.size() == 29);
  CHECK(comparison.tolerance == 1e-5);
}

TEST_CASE("verify: whatever changes the result is found, and where") {
  Job job = test::small_job(false, 1);
  job.training.micro_batch_tokens = 1;
  job.training.tokens_per_step = 6;
  Job oracle = plain(job);
  SECTION("another rotation, which the loss hardly shows") {
    oracle.model.rope_theta *= 1.01;
    CHECK_FALSE(compare_with(job, oracle).agrees());
  }
  SECTION("other first weights") {
    oracle.run.seed += 1;
    CHECK_FALSE(compare_with(job, oracle).agrees());
  }
  SECTION("a loss that is not a number is no agreement") {
    oracle.model.rms_norm_eps = -1e30;
    CHECK_FALSE(compare_with(job, oracle).agrees());
  }
}

TEST_CASE("verify: a gradient alone that differs, or is not a number, is told") {
  Comparison comparison;
  comparison.precision = std::string("fp32");
  comparison.tolerance = 1e-5;
  comparison.gradients = {{"model.embed_tokens.weight", 1e-6},
                          {"model.layers.0.self_attn.q_proj.weight", 1e-6},
                          {"model.layers.0.mlp.up_proj.weight", 2e-6}};
  CHECK(comparison.agrees());
  Verification verification;
  verification.comparisons = {comparison};
  CHECK_THAT(verification_text(verification), Catch::Contains("all agree"));
  const double wrong = GENERATE(2e-5, std::numeric_limits<double>::quiet_NaN(),
                                std::numeric_limits<double>::infinity());
  verification.comparisons[0].gradients[1].relative = wrong;
  CHECK_FALSE(verification.agrees());
  const std::string text = verification_text(verification);
  CHECK_THAT(text, Catch::Contains("most in model.layers.0.self_attn.q_proj.weight  DIFFERS"));
  CHECK_THAT(text, Catch::Contains("THE LAYOUT CHANGES THE RESULT"));
}

TEST_CASE("verify: a shrunk job keeps what its layout depends on") {
  Job job;
  job.model.vocab_size = 128256;
  job.model.hidden_size = 4096;
  job.model.intermediate_size = 14336;
  job.model.num_hidden_layers = 32;
  job.model.num_attention_heads = 32;
  job.model.num_key_value_heads = 8;
  job.model.resolve("model");
  job.memory.activation_checkpointing = "0-15: block, 16-31: block_keep_attention";
  job.training.micro_batch_tokens = 1 << 20;
  job.training.tokens_per_step = 64 << 20;
  job.parallel.data = 4;
  const ParallelLayout layout = parallel_layout(job, 64);
  Shrunk small = shrink(job, layout);
  small.job.model.resolve("model");
  CHECK(small.job.model.num_attention_heads == 32);
  CHECK(small.job.model.num_key_value_heads == 8);
  CHECK(small.job.model.num_hidden_layers == 2);
  CHECK(memory_policy(small.job).checkpointing(0) == model::Checkpointing::kBlock);
  CHECK(memory_policy(small.job).checkpointing(1) == model::Checkpointing::kBlockKeepAttention);
  CHECK(small.job.model.parameters() < 10'000'000);
  CHECK(ParallelLayout::rows(small.job) == 9);
  CHECK(parallel_layout(small.job, 64).sequence == layout.sequence);
  CHECK_FALSE(small.changes.empty());
  // A job that is small already is left alone.
  const Shrunk again = shrink(small.job, layout);
  CHECK(again.changes.empty());
}

}  // namespace
}  // namespace longspan::train
