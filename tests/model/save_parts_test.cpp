// Slots whose tokens wait in parts, some on the host, some made again: the same gradients.
#include <catch2/catch.hpp>

#include "longspan/base/error.h"
#include "longspan/model/lora.h"
#include "tests/model/policy_bench.h"

namespace longspan::model {
namespace {

using backend::Index;
using backend::MemoryTag;
using base::DType;
using Catch::Matchers::Contains;
using nn::SaveParts;
using nn::SavePolicy;
using test::apart;
using test::Batch;
using test::check_same;
using test::masked_batch;
using test::Outcome;
using test::outcome_of;
using test::policy;
using test::with_slots;

TEST_CASE("parts of a slot's tokens that are exact give the same bits") {
  const std::string level = GENERATE("none", "block", "block_keep_attention");
  const std::string word = GENERATE("0 host | full", "1 host | full", "0.37 host | full",
                                    "0.5 full | host", "0.2 host | 0.3 full | host");
  const Batch batch = masked_batch();
  for (const ModelConfig& config : test::small_configs()) {
    INFO(config.model_type << ", " << level << ", " << word);
    const Index layers = config.num_hidden_layers;
    const Outcome kept =
        outcome_of(policy(level, "none", "5", layers), DType::kFloat32, batch, config);
    MemoryPolicy memory = policy(level, "none", "5", layers);
    memory.set_slots(SlotTexts::all(word), "slots", /*may_be_absent=*/true);
    const auto host = test::make_backend();
    const Outcome parts = outcome_of(memory, DType::kFloat32, batch, config, host.get());
    CHECK(parts.nll_sum == kept.nll_sum);
    CHECK(parts.gradients == kept.gradients);
    CHECK((host->ledger().peak_total() > 0) == (word != "0 host | full"));
    CHECK(host->ledger().live_total() == 0);
  }
}

TEST_CASE("parts wait beside mini-sequences of the MLP") {
  const Batch batch = masked_batch();
  const ModelConfig config = GENERATE(test::small_config(true), test::small_gpt2());
  const Outcome kept = outcome_of(policy("none", "3", "4"), DType::kFloat64, batch, config);
  MemoryPolicy memory = policy("none", "3", "4");
  const std::string word = "0.6 host | full";
  memory.set_slots({word, word, "0.6 host | recompute", word, "full"}, "slots", false);
  const auto host = test::make_backend();
  check_same(outcome_of(memory, DType::kFloat64, batch, config, host.get()), kept, 1e-12);
}

TEST_CASE("tokens that are made again, few, many or all, give the gradients of those kept") {
  const std::string word = GENERATE("0 recompute | full", "recompute", "0.6 host | recompute",
                                    "1 full | recompute", "0.3 recompute | 0.3 full | recompute");
  const DType dtype = GENERATE(DType::kFloat64, DType::kFloat32);
  // A product of fewer rows may round its sums otherwise.
  const double tolerance = dtype == DType::kFloat64 ? 1e-12 : 1e-5;
  const Batch batch = masked_batch();
  for (const ModelConfig& config : test::small_configs()) {
    INFO(config.model_type << ", " << word);
    const Index layers = config.num_hidden_layers;
    const Outcome kept = outcome_of(policy("none", "none", "2", layers), dtype, batch, config);
    const auto host = test::make_backend();
    for (const SlotTexts& texts : {SlotTexts{"full", "full", "full", "full", word},
                                   {"full", "full", word, "full", "full"},
                                   {"host", "0.5 host | full", word, "host", word}}) {
      const Outcome again =
          outcome_of(with_slots("none", texts, layers), dtype, batch, config, host.get());
      CHECK(again.nll_sum == kept.nll_sum);
      check_same(again, kept, tolerance);
    }
  }
}

TEST_CASE("tokens that are made again drop what the forward dropped") {
  LoraConfig lora;
  lora.rank = 3;
  lora.dropout = 0.4;
  const Batch batch = masked_batch();
  const auto gradients = [&](const std::string& word) {
    const auto backend = test::make_backend();
    Decoder decoder(test::small_config(true), DType::kFloat64, *backend,
                    with_slots("none", {"full", "full", word, "full", word}), {}, nullptr,
                    {.lora = lora});
    decoder.parameters().initialise(5, 0.3);
    nn::ParameterSet& set = *decoder.adapters();
    for (int number = 0; number < static_cast<int>(set.parameters().size()); ++number) {
      set.begin_uniform(number, 0.3);
    }
    set.initialise(6, 0.0);
    set.start_gradients();
    test::run(decoder, batch, 0.1, 3);
    set.settle_gradients();
    std::vector<std::vector<double>> all;
    for (int number = 0; number < static_cast<int>(set.parameters().size()); ++number) {
      all.push_back(test::values(*backend, set.gradient(number)));
    }
    return all;
  };
  const auto expected = gradients("full");
  const auto found = gradients("0.3 full | recompute");
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(test::relative_distance(found[i], expected[i]) <= 1e-12);
  }
}

TEST_CASE("parts in 8-bit codes: all or none are as the words alone, some are in between") {
  const Batch batch = masked_batch();
  const ModelConfig config = GENERATE(test::small_config(true), test::small_gpt2());
  const auto rounding = GENERATE(SavePolicy::Rounding::kNearest, SavePolicy::Rounding::kStochastic);
  const auto outcome = [&](const std::string& word, backend::Backend* host = nullptr) {
    MemoryPolicy memory = policy("none", "none", "2");
    const bool has_codes = word.find("int8") != std::string::npos;
    memory.set_slots(SlotTexts::all(word), "slots", false,
                     has_codes ? rounding : SavePolicy::Rounding::kNearest);
    return outcome_of(memory, DType::kFloat32, batch, config, host, 2);
  };
  const Outcome kept = outcome("full");
  const Outcome coded = outcome("int8");
  CHECK(outcome("1 int8 | full").gradients == coded.gradients);
  CHECK(outcome("0.4 int8 | int8").gradients == coded.gradients);
  const auto host = test::make_backend();
  CHECK(outcome("0.4 int8 | int8+host", host.get()).gradients == coded.gradients);
  const Outcome some = outcome("0.5 int8 | full");
  CHECK(some.nll_sum == kept.nll_sum);
  CHECK(apart(some, kept) > 0);
  CHECK(apart(some, kept) < apart(coded, kept));
}

TEST_CASE("of what waits in parts, each takes its own memory alone") {
  ModelConfig config = test::small_config(false);
  config.num_hidden_layers = 8;
  const auto backend_of = [&](const SlotTexts& texts, std::size_t& on_host) {
    auto backend = test::make_backend();
    const auto host = test::make_backend();
    Decoder decoder(config, DType::kFloat32, *backend, with_slots("none", texts, 8), {},
                    host.get());
    test::run(decoder, test::random_batch(config, {1000}, 8), 1.0);
    on_host = host->ledger().peak_total();
    return backend->ledger().peak(MemoryTag::kSaved);
  };
  std::size_t on_host = 0;
  const std::size_t all = backend_of(SlotTexts::all("full"), on_host);
  const auto width = static_cast<std::size_t>(config.intermediate_size);
  const std::size_t up = std::size_t{1000} * 2 * width * 4;  // of one layer
  const auto with_up = [&](const std::string& word) {
    return backend_of({"full", "full", "full", "full", word}, on_host);
  };
  // One layer's is whole at a time, and while it is put together a part of it is there twice.
  const std::size_t again = with_up("recompute");
  CHECK(on_host == 0);
  CHECK(again <= all - 7 * up);
  const std::size_t half = with_up("0.5 full | recompute");
  CHECK(half <= all - 7 * up / 2 + up / 2);
  CHECK(half > again);
  const std::size_t away = with_up("0.25 host | recompute");
  CHECK(on_host == 8 * up / 4);
  CHECK(away <= again + up / 2);  // those of two blocks that go or come
}

TEST_CASE("the words of parts") {
  const auto parts_of = [](const std::string& text) {
    return with_slots("none", {"full", "full", "full", "full", text}).slots(0)[Slot::kMlpUp];
  };
  const SavePolicy host{SavePolicy::Codes::kNone, true};
  const SavePolicy again{SavePolicy::Codes::kNone, false, SavePolicy::Rounding::kNearest, true};
  CHECK(parts_of("0.6 host | recompute") == SaveParts({{host, 600'000}, {again}}));
  CHECK(parts_of(" .25 host|0.35 host  |0.4  recompute") == parts_of("0.6 host | recompute"));
  CHECK(parts_of("0: 0.000001 host | full, 1: host") == SaveParts({{host, 1}, {SavePolicy{}}}));
  CHECK(parts_of("0 host | full") == SaveParts());
  CHECK(parts_of("1 host | recompute") == parts_of("host"));
  CHECK(parts_of("1 host") == SaveParts(host));

  for (const char* text : {"full", "int8_rows+host", "recompute", "0.6 host | recompute",
                           "0.123456 int8 | 0.5 full | int8+host", "0.000001 host | full"}) {
    CHECK(text_of(parts_of(text)) == text);
  }
  CHECK(SaveParts::cut(7, 500'000) == 3);
  CHECK(SaveParts::cut(Index{1} << 31U, SaveParts::kWhole) == Index{1} << 31U);
  for (const std::vector<SaveParts::Part>& wrong : {std::vector<SaveParts::Part>{},
                                                    {{host, 5}},
                                                    {{host, 700'000}, {again, 600'000}},
                                                    {{host}, {again, 600'000}}}) {
    CHECK_THROWS_AS(SaveParts(wrong), base::InternalError);
  }
}

TEST_CASE("what is no word of parts is refused with the legal words") {
  const auto refusal = [](Slot slot, const std::string& text) {
    SlotTexts texts = SlotTexts::all("full");
    texts[slot] = text;
    MemoryPolicy memory = policy("none", "none", "1");
    try {
      memory.set_slots(texts, "memory.saved_inputs", /*may_be_absent=*/false);
    } catch (const base::InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto check = [&](const std::string& text, const std::string& why) {
    INFO(text);
    CHECK_THAT(refusal(Slot::kMlpUp, text),
               Contains("memory.saved_inputs.mlp_up is \"" + text + "\": ") && Contains(why) &&
                   Contains("legal: \"full\", \"host\", \"int8\"") &&
                   Contains("\"recompute\", parts of the tokens such as \"0.6 host | full\", or "
                            "ranges of layers"));
  };
  check("0.6 hst | full", "\"hst\" is none of these words");
  check("host | full", "\"host\" has no fraction; all parts but the last have one");
  check("0.6 host | 0.5 full", "add up to 1.1, not to 1");
  check("0.6 host | 0.5 int8 | full", "add up to 1.1, more than 1");
  check("0.6 host | 0.3 full", "add up to 0.9, not to 1");
  check("0.6 host", "add up to 0.6, not to 1");
  check("1.5 host | full", "\"1.5 host\" begins with no fraction from 0 to 1");
  check("-0.5 host | full", "begins with no fraction");
  check("0.1234567 host | full", "at most six decimals");
  check("nan host | full", "\"nan host\" is none of these words");
  check("0.5 host |", "\"\" is none of these words");
  check("0: 0.5 host | ful", "\"ful\" is none of these words");
  check("0: host, full", "\"full\" names no layers");

  CHECK_THAT(refusal(Slot::kBlockInput, "recompute"), Contains("no \"recompute\": all else"));
  CHECK_THAT(refusal(Slot::kBlockMiddle, "0.5 host | recompute"),
             Contains("no \"recompute\": it is what the attention gave") &&
                 Contains("block_keep_attention"));
  CHECK_THAT(refusal(Slot::kAttentionOutput, "recompute"),
             Contains("keys and values of all before it") && Contains("legal: \"full\""));
  CHECK(refusal(Slot::kAttentionQkv, "recompute").empty());
}

}  // namespace
}  // namespace longspan::model
