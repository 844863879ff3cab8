// Whole models against values stored by scripts/fixtures/*_reference.py.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/model/fixture.h"

namespace longspan::model {
namespace {

using base::DType;
using test::Fixture;

const char* const kNames[] = {"gqa_tied",
                              "gqa_untied_packed",
                              "wide_heads_packed",
                              "long_packed",
                              "gpt2",
                              "gpt2_packed",
                              "qwen2_packed",
                              "qwen2_tied",
                              "llama_linear",
                              "llama3",
                              "llama_yarn",
                              "mistral_window",
                              "qwen2_window",
                              "qwen3",
                              "qwen3_window",
                              "gemma2",
                              "gemma2_no_caps",
                              "gemma3",
                              "phi3"};

void check_against_reference(const Fixture& fixture, DType dtype, double loss_tolerance,
                             double gradient_tolerance) {
  const auto backend = test::make_backend();
  std::string why_not;
  if (!backend->supports(dtype, &why_not)) {
    WARN("skipped: " << why_not);
    return;
  }
  Decoder model(fixture.config, dtype, *backend);
  test::load_weights(*backend, model, fixture.weights);
  const test::Batch& batch = fixture.batch;

  const LossResult result = test::run(model, batch, fixture.loss_scale);
  CHECK(result.targets == std::count_if(batch.labels.begin(), batch.labels.end(), [](auto label) {
          return label != backend::kIgnoredLabel;
        }));
  CHECK(std::abs(result.nll_sum - fixture.nll_sum) <= loss_tolerance * fixture.nll_sum);
  const LossResult alone = model.evaluate(batch);
  CHECK(alone.nll_sum == result.nll_sum);
  CHECK(alone.targets == result.targets);

  const auto gradients = test::gradients(*backend, model);
  REQUIRE(gradients.size() == fixture.gradients.size());
  for (const auto& [name, expected] : fixture.gradients) {
    INFO(name);
    CHECK(test::relative_distance(gradients.at(name), expected) <= gradient_tolerance);
  }
}

/// Token by token, as text is generated: every position through the cache of keys and values.
void check_logits(const Fixture& fixture, DType dtype, double tolerance) {
  const auto backend = test::make_backend();
  Decoder model(fixture.config, dtype, *backend);
  test::load_weights(*backend, model, fixture.weights);
  const auto width = static_cast<std::size_t>(fixture.config.vocab_size);
  REQUIRE(fixture.logits.size() == fixture.batch.tokens.size() * width);
  double worst = 0;
  std::size_t place = 0;
  for (std::size_t document = 0; document < fixture.batch.documents(); ++document) {
    const std::vector<std::int32_t> tokens = fixture.batch.document(document).tokens;
    auto cache = model.make_cache(static_cast<std::int64_t>(tokens.size()));
    for (const std::int32_t token : tokens) {
      for (const float logit : model.next_logits({token}, cache)) {
        const double off =
            std::abs(static_cast<double>(logit) - static_cast<double>(fixture.logits.at(place++)));
        worst = std::isnan(off) ? HUGE_VAL : std::max(worst, off);
      }
    }
  }
  CHECK(place == fixture.logits.size());
  CHECK(worst <= tolerance);
}

TEST_CASE("logits of every position agree with PyTorch") {
  const std::string name = GENERATE(from_range(std::begin(kNames), std::end(kNames)));
  INFO(name);
  const Fixture fixture = test::read_fixture(name);
  check_logits(fixture, DType::kFloat64, 1e-5);  // they are handed out as float32
  check_logits(fixture, DType::kFloat32, 1e-4);
}

TEST_CASE("loss and every gradient agree with PyTorch in fp64") {
  const std::string name = GENERATE(from_range(std::begin(kNames), std::end(kNames)));
  INFO(name);
  check_against_reference(test::read_fixture(name), DType::kFloat64, 1e-13, 1e-11);
}

TEST_CASE("loss and every gradient agree with PyTorch to 1e-5 in fp32") {
  const std::string name = GENERATE(from_range(std::begin(kNames), std::end(kNames)));
  INFO(name);
  check_against_reference(test::read_fixture(name), DType::kFloat32, 1e-5, 1e-5);
}

TEST_CASE("loss and every gradient agree with PyTorch in bf16 as far as its rounding allows") {
  const std::string name = GENERATE(from_range(std::begin(kNames), std::end(kNames)));
  INFO(name);
  const Fixture fixture = test::read_fixture(name);
  // About ten values are rounded on the way through a layer, and ten on the way back, each by a
  // relative error of at most 2^-9; independent errors add up as a root of a sum of squares. The
  // factor leaves room for sums that cancel (norm weights, queries and keys).
  const double roundings = 20.0 * static_cast<double>(fixture.config.num_hidden_layers) + 6.0;
  const double tolerance = 4.0 * std::sqrt(roundings) * std::pow(2.0, -9.0);
  const double loss_tolerance = std::pow(2.0, -9.0);  // a sum over tokens: errors cancel
  check_against_reference(fixture, DType::kBFloat16, loss_tolerance, tolerance);
}

}  // namespace
}  // namespace longspan::model
