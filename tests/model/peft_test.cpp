// Adapters against values that PEFT gave: scripts/fixtures/peft_adapters.py.
#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/model/lora.h"
#include "tests/model/fixture.h"

namespace longspan::model {
namespace {

using base::DType;
using test::Fixture;
using Tensors = std::map<std::string, std::vector<double>>;

/// A base with adapters as the fixture's files have them.
struct Adapted {
  Adapted(const Fixture& fixture, DType dtype)
      : lora(AdapterConfig::from_json(fixture.adapter, "adapter_config.json").lora),
        decoder(fixture.config, dtype, *backend, {}, {}, nullptr, {.lora = lora}) {
    Tensors base;
    Tensors adapters;
    for (const auto& [name, values] : fixture.weights) {
      (name.starts_with("base_model.model.") ? adapters : base)[name] = values;
    }
    test::load_weights(*backend, decoder.parameters(), base);
    test::load_weights(*backend, *decoder.adapters(), adapters);
  }

  std::unique_ptr<backend::Backend> backend = test::make_backend();
  LoraConfig lora;
  Decoder decoder;
};

void check_against_peft(const Fixture& fixture, DType dtype, double tolerance) {
  Adapted adapted(fixture, dtype);
  check_targets(adapted.lora.target_modules, fixture.config, "target_modules");
  const LossResult result = test::run(adapted.decoder, fixture.batch, fixture.loss_scale);
  CHECK(std::abs(result.nll_sum - fixture.nll_sum) <= tolerance * fixture.nll_sum);
  nn::ParameterSet& set = *adapted.decoder.adapters();
  REQUIRE(set.parameters().size() == fixture.gradients.size());
  int number = 0;
  for (const nn::Parameter& parameter : set.parameters()) {
    INFO(parameter.name);
    CHECK(test::relative_distance(test::values(*adapted.backend, set.gradient(number++)),
                                  fixture.gradients.at(parameter.name)) <= tolerance);
  }
}

TEST_CASE("adapters: loss and gradients agree with PEFT") {
  const Fixture fixture =
      test::read_fixture(GENERATE("llama_two", "llama_all", "gpt2_all"), "peft");
  check_against_peft(fixture, DType::kFloat64, 1e-11);
  check_against_peft(fixture, DType::kFloat32, 1e-4);  // losses of 8 nats: large gradients cancel
}

TEST_CASE("adapters: logits of every position agree with PEFT") {
  const Fixture fixture =
      test::read_fixture(GENERATE("llama_two", "llama_all", "gpt2_all"), "peft");
  Adapted adapted(fixture, DType::kFloat64);
  double worst = 0;
  std::size_t place = 0;
  for (std::size_t document = 0; document < fixture.batch.documents(); ++document) {
    const std::vector<std::int32_t> tokens = fixture.batch.document(document).tokens;
    auto cache = adapted.decoder.make_cache(static_cast<std::int64_t>(tokens.size()));
    for (const std::int32_t token : tokens) {
      for (const float logit : adapted.decoder.next_logits({token}, cache)) {
        const double off =
            std::abs(static_cast<double>(logit) - static_cast<double>(fixture.logits.at(place++)));
        worst = std::isnan(off) ? HUGE_VAL : std::max(worst, off);
      }
    }
  }
  CHECK(place == fixture.logits.size());
  CHECK(worst <= 1e-5);
}

}  // namespace
}  // namespace longspan::model
