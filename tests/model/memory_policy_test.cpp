// Checkpointing and mini-sequences change what is kept, never what is computed.
#include "longspan/model/memory_policy.h"

#include <catch2/catch.hpp>

#include "longspan/base/error.h"
#include "tests/model/policy_bench.h"

namespace longspan::model {
namespace {

using backend::Index;
using backend::kIgnoredLabel;
using base::DType;
using Catch::Matchers::Contains;
using test::apart;
using test::Batch;
using test::check_same;
using test::masked_batch;
using test::Outcome;
using test::outcome_of;
using test::policy;
using test::with_slots;
using Rounding = nn::SavePolicy::Rounding;

TEST_CASE("any number of ranges gives the loss and every gradient of the whole") {
  const DType dtype = GENERATE(DType::kFloat64, DType::kFloat32);
  const std::string checkpointing = GENERATE("none", "block", "block_keep_attention");
  const double tolerance = dtype == DType::kFloat64 ? 1e-12 : 1e-6;
  const ModelConfig config = GENERATE(test::small_config(true), test::small_gpt2());
  const Batch batch = masked_batch();
  const Outcome whole = outcome_of(policy("none", "none", "1"), dtype, batch, config);
  for (std::size_t ranges = 1; ranges <= batch.tokens.size(); ++ranges) {
    INFO(ranges << " ranges");
    const std::string count = std::to_string(ranges);
    check_same(outcome_of(policy(checkpointing, count, count), dtype, batch, config), whole,
               tolerance);
  }
  for (const char* size : {"1B", "1KiB", "3KiB", "1MiB"}) {
    INFO(size);
    check_same(outcome_of(policy(checkpointing, size, size), dtype, batch, config), whole,
               tolerance);
  }
}

TEST_CASE("checkpointing gives the same bits as keeping everything") {
  const DType dtype = GENERATE(DType::kFloat64, DType::kFloat32, DType::kBFloat16);
  if (!test::make_backend()->supports(dtype, nullptr)) return;
  const std::string mlp = GENERATE("none", "3");
  const ModelConfig config = GENERATE(test::small_config(false), test::small_gpt2());
  const Batch batch = masked_batch();
  const Outcome kept = outcome_of(policy("none", mlp, "2"), dtype, batch, config);
  for (const char* level : {"block", "block_keep_attention", "0: block",
                            "1-1: block_keep_attention", "0: block_keep_attention, 1: block"}) {
    INFO(level);
    const Outcome again = outcome_of(policy(level, mlp, "2"), dtype, batch, config);
    CHECK(again.nll_sum == kept.nll_sum);
    CHECK(again.gradients == kept.gradients);
  }
}

TEST_CASE("a pass may keep other things than its model: the same bits in the memory of its own") {
  const ModelConfig config = GENERATE(test::small_config(true), test::small_gpt2());
  const Batch batch = masked_batch();
  const Outcome expected = outcome_of(policy("none", "none", "3"), DType::kFloat32, batch, config);
  const auto saved_by = [&](const MemoryPolicy& own, const MemoryPolicy* blocks) {
    const auto backend = test::make_backend();
    Decoder decoder(config, DType::kFloat32, *backend, own);
    decoder.parameters().initialise(5, 0.3);
    decoder.parameters().start_gradients();
    Outcome found;
    found.nll_sum += decoder.forward_backward(batch, 0.1, blocks).nll_sum;
    const std::size_t saved = backend->ledger().peak(backend::MemoryTag::kSaved);
    // The next pass is the model's own again.
    found.nll_sum += test::run(decoder, batch.document(0), 0.1).nll_sum;
    decoder.parameters().settle_gradients();
    found.gradients = test::gradients(*backend, decoder);
    check_same(found, expected, 0.0);
    return saved;
  };
  const std::vector<std::string> levels{"none", "block", "block_keep_attention",
                                        "0: block, 1: block_keep_attention"};
  for (const std::string& own : levels) {
    const MemoryPolicy of_model = policy(own, "auto", "3");
    for (const std::string& level : levels) {
      INFO(level << " in a model of " << own);
      const MemoryPolicy of_pass = policy(level, "auto", "1");
      CHECK(saved_by(of_model, &of_pass) == saved_by(policy(level, "auto", "3"), nullptr));
    }
  }
}

TEST_CASE("slots that wait on the host give the same bits and leave the device") {
  const std::string level = GENERATE("none", "block", "block_keep_attention");
  const SlotTexts texts =
      GENERATE(SlotTexts::all("host"), SlotTexts{"host", "full", "full", "full", "full"},
               SlotTexts{"1: host", "0: host", "0-1: host", "full", "1: host"});
  const auto host = test::make_backend();
  for (const ModelConfig& config : test::small_configs()) {
    INFO(config.model_type);
    const Index layers = config.num_hidden_layers;
    const Batch batch = masked_batch();
    const Outcome kept =
        outcome_of(policy(level, "none", "2", layers), DType::kFloat64, batch, config);
    const Outcome parked =
        outcome_of(with_slots(level, texts, layers), DType::kFloat64, batch, config, host.get());
    CHECK(parked.nll_sum == kept.nll_sum);
    CHECK(parked.gradients == kept.gradients);
    // Of the larger micro-batch: one block's input at least, and nothing stays.
    const std::size_t rows = batch.tokens.size() * 8;
    CHECK(host->ledger().peak_total() >= rows * static_cast<std::size_t>(config.hidden_size));
    CHECK(host->ledger().live_total() == 0);
  }
}

TEST_CASE("on the device are slots of two blocks at most that wait on the host, however many") {
  ModelConfig config = test::small_config(false);
  const auto saved_with = [&](Index layers, const std::string& level) {
    config.num_hidden_layers = layers;
    const auto backend = test::make_backend();
    const auto host = test::make_backend();
    MemoryPolicy memory = MemoryPolicy::parse(level, "none", "1", layers, "memory");
    memory.set_slots(SlotTexts::all("host"), "memory.saved_inputs", /*may_be_absent=*/true);
    Decoder decoder(config, DType::kFloat32, *backend, memory, {}, host.get());
    test::run(decoder, test::random_batch(config, {1024}, 8), 1.0);
    return backend->ledger().peak(backend::MemoryTag::kSaved);
  };
  for (const char* level : {"none", "block"}) {
    INFO(level);
    const std::size_t few = saved_with(4, level);
    // Each layer more adds what never leaves: log-sum-exp and norms' statistics.
    const std::size_t statistics =
        1024 * 4 * static_cast<std::size_t>(config.num_attention_heads + 2);
    CHECK(saved_with(12, level) <= few + 8 * statistics);
  }
}

TEST_CASE("slots in 8-bit codes: the loss's bits, gradients nearby, a fraction of the memory") {
  const std::string level = GENERATE("none", "block", "block_keep_attention");
  const std::string word = GENERATE("int8", "int8_rows");
  const ModelConfig config = GENERATE(test::small_config(true), test::small_gpt2());
  SlotTexts texts = SlotTexts::all(word);
  if (word == "int8_rows") texts[Slot::kAttentionQkv] = texts[Slot::kAttentionOutput] = "full";
  const Batch batch = masked_batch();
  const Outcome kept = outcome_of(policy(level, "none", "2"), DType::kFloat32, batch, config);
  const Outcome coded = outcome_of(with_slots(level, texts), DType::kFloat32, batch, config);
  CHECK(coded.nll_sum == kept.nll_sum);  // what waits is not what goes on
  CHECK(apart(coded, kept) > 0);
  CHECK(apart(coded, kept) < 0.02);

  // With a host as well: the same codes, so the same bits.
  for (std::string& text : texts.values) {
    if (text != "full") text += "+host";
  }
  const auto host = test::make_backend();
  const Outcome there =
      outcome_of(with_slots(level, texts), DType::kFloat32, batch, config, host.get());
  CHECK(there.gradients == coded.gradients);
}

TEST_CASE("slots rounded at random: the loss's bits, gradients nearby, the same bits again") {
  const std::string level = GENERATE("none", "block", "block_keep_attention");
  for (const ModelConfig& config : test::small_configs()) {
    INFO(config.model_type << ", " << level);
    const Index layers = config.num_hidden_layers;
    const Batch batch = masked_batch();
    const auto outcome = [&](const SlotTexts& texts, Rounding rounding, std::uint64_t step,
                             backend::Backend* host = nullptr) {
      return outcome_of(with_slots(level, texts, layers, rounding), DType::kFloat32, batch, config,
                        host, step);
    };
    const SlotTexts codes = SlotTexts::all("int8");
    const Outcome kept = outcome(SlotTexts::all("full"), Rounding::kNearest, 1);
    const Outcome coded = outcome(codes, Rounding::kStochastic, 1);
    CHECK(coded.nll_sum == kept.nll_sum);
    CHECK(apart(coded, kept) > 0);
    // As far as to nearest, sqrt(2) times over; some of these models turn small steps to large
    // ones.
    const double nearest = apart(outcome(codes, Rounding::kNearest, 1), kept);
    CHECK(apart(coded, kept) < 3 * nearest);

    CHECK(outcome(codes, Rounding::kStochastic, 1).gradients == coded.gradients);
    CHECK(outcome(codes, Rounding::kStochastic, 2).gradients != coded.gradients);
    const auto host = test::make_backend();
    CHECK(outcome(SlotTexts::all("int8+host"), Rounding::kStochastic, 1, host.get()).gradients ==
          coded.gradients);
  }
}

TEST_CASE("slots rounded at random draw the same whatever ranges the MLP has") {
  const Batch batch = masked_batch();
  const auto outcome = [&](const std::string& level, const std::string& mlp) {
    MemoryPolicy memory = policy(level, mlp, "2");
    memory.set_slots({"int8_rows", "full", "full", "int8", "full"}, "memory.saved_inputs",
                     /*may_be_absent=*/true, Rounding::kStochastic);
    return outcome_of(memory, DType::kFloat64, batch, test::small_config(true), nullptr, 4);
  };
  check_same(outcome("none", "5"), outcome("none", "none"), 1e-12);
  check_same(outcome("block_keep_attention", "5"), outcome("block_keep_attention", "none"), 1e-12);
  check_same(outcome("block", "5"), outcome("block", "none"), 1e-12);
}

TEST_CASE(
    "where what is rounded at random is read linearly, the mean of gradients is the gradient") {
  // The attention's output: a factor of its projection's gradient, and of a sum in the attention's
  // backward.
  constexpr int kSteps = 300;
  const Batch batch = masked_batch();
  const auto outcome = [&](const std::string& word, Rounding rounding, std::uint64_t step) {
    return outcome_of(with_slots("none", {"full", "full", "full", word, "full"}, 2, rounding),
                      DType::kFloat64, batch, test::small_config(true), nullptr, step);
  };
  const Outcome exact = outcome("full", Rounding::kNearest, 0);
  Outcome mean = exact;
  std::map<std::string, std::vector<double>> squares;
  for (auto& [name, values] : mean.gradients) {
    std::fill(values.begin(), values.end(), 0.0);
    squares[name] = values;
  }
  for (std::uint64_t step = 0; step < kSteps; ++step) {
    const Outcome one = outcome("int8", Rounding::kStochastic, step);
    for (const auto& [name, values] : one.gradients) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const double error = values[i] - exact.gradients.at(name)[i];
        mean.gradients[name][i] += values[i] / kSteps;
        squares[name][i] += error * error / kSteps;
      }
    }
  }
  for (const auto& [name, values] : mean.gradients) {
    INFO(name);
    double distance = 0;
    double expected = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double error = values[i] - exact.gradients.at(name)[i];
      // Five standard errors (and rounding, of those that no code enters).
      REQUIRE(std::abs(error) <= 5 * std::sqrt(squares[name][i] / kSteps) + 1e-11);
      distance += error * error;
      expected += squares[name][i] / kSteps;
    }
    CHECK(distance <= 5 * expected + 1e-20);
  }
  // To nearest there is no such mean: every step is as far off.
  CHECK(apart(mean, exact) < 0.3 * apart(outcome("int8", Rounding::kNearest, 0), exact));
}

TEST_CASE("a pass that rounds at random needs the numbers of its tokens") {
  const auto backend = test::make_backend();
  Decoder decoder(test::small_config(true), DType::kFloat32, *backend,
                  with_slots("none", SlotTexts::all("int8"), 2, Rounding::kStochastic));
  const Batch batch = masked_batch();
  CHECK_THROWS_AS(decoder.forward_backward(batch, 1.0), base::InternalError);
  decoder.evaluate(batch);  // draws nothing
}

TEST_CASE("8-bit codes of all slots take little more than a quarter of float32") {
  const ModelConfig config = test::small_config(true);
  const auto saved_by = [&](const std::string& word) {
    ModelConfig wide = config;
    wide.num_hidden_layers = 8;
    wide.hidden_size = 128;
    wide.head_dim = 32;
    wide.intermediate_size = 256;
    const auto backend = test::make_backend();
    MemoryPolicy memory = MemoryPolicy::parse("none", "none", "1", 8, "memory");
    memory.set_slots(SlotTexts::all(word), "memory.saved_inputs", /*may_be_absent=*/false);
    Decoder decoder(wide, DType::kFloat32, *backend, memory);
    test::run(decoder, test::random_batch(wide, {256}, 8), 1.0);
    return static_cast<double>(backend->ledger().peak(backend::MemoryTag::kSaved));
  };
  // A block of 32 floats becomes 32 + 8 bytes, of 128 becomes 136; one layer's tensors are whole
  // beside that, and statistics stay.
  CHECK(saved_by("int8") < 0.5 * saved_by("full"));
}

TEST_CASE("a mini-sequence, a micro-batch or everything without a label") {
  const std::string ranges = GENERATE("1", "4", "37");
  Batch batch = masked_batch();
  SECTION("a whole range") { std::fill_n(batch.labels.begin() + 8, 20, kIgnoredLabel); }
  SECTION("the second micro-batch") { std::fill_n(batch.labels.begin(), 7, kIgnoredLabel); }
  SECTION("everything") {
    std::fill(batch.labels.begin(), batch.labels.end(), kIgnoredLabel);
    const Outcome none = outcome_of(policy("block", ranges, ranges), DType::kFloat64, batch);
    CHECK(none.nll_sum == 0.0);
    for (const auto& [name, gradient] : none.gradients) {
      INFO(name);
      CHECK(gradient == std::vector<double>(gradient.size(), 0.0));
    }
    return;
  }
  check_same(outcome_of(policy("block", ranges, ranges), DType::kFloat64, batch),
             outcome_of(policy("none", "none", "1"), DType::kFloat64, batch), 1e-12);
}

TEST_CASE("evaluation and generation do not depend on the policy") {
  const auto backend = test::make_backend();
  const Batch batch = masked_batch();
  std::vector<double> losses;
  std::vector<std::vector<float>> logits;
  const ModelConfig config = GENERATE(test::small_config(true), test::small_gpt2());
  for (const MemoryPolicy& memory : {policy("none", "none", "1"), policy("block", "5", "7")}) {
    Decoder decoder(config, DType::kFloat64, *backend, memory);
    decoder.parameters().initialise(5, 0.3);
    losses.push_back(decoder.evaluate(batch).nll_sum);
    KvCache cache = decoder.make_cache(9);
    logits.push_back(decoder.next_logits({1, 2, 3, 4, 5, 6, 7}, cache));
  }
  CHECK(losses[0] == Approx(losses[1]).epsilon(1e-13));
  CHECK(logits[0] == logits[1]);
}

TEST_CASE("a checkpointed model keeps the blocks' inputs alone") {
  const ModelConfig config = test::small_config(true);
  const auto kept = [&](const std::string& level, std::int32_t tokens) {
    const auto backend = test::make_backend();
    Decoder decoder(config, DType::kFloat32, *backend, policy(level, "auto", "auto"));
    const Batch batch = test::random_batch(config, {tokens}, 8);
    test::run(decoder, batch, 1.0);
    CHECK(backend->ledger().live(backend::MemoryTag::kSaved) == 0);
    return backend->ledger().peak(backend::MemoryTag::kSaved);
  };
  const std::size_t all = kept("none", 1024);
  const std::size_t output = kept("block_keep_attention", 1024);
  const std::size_t block = kept("block", 1024);
  CHECK(block < output);
  CHECK(output < all);
  // While a block is recomputed: inputs of both, the last output; mid, qkv, attended, lse, rstd.
  const std::size_t a_token = 4 * (3 * 16 + 16 + 32 + 16 + 4 + 2) + 4 * (4 + 2);
  CHECK(block <= 1024 * a_token);
  CHECK(kept("block", 2048) == 2 * block);
}

TEST_CASE("the words of a memory policy") {
  const auto refusal = [](const std::string& checkpointing, const std::string& mlp,
                          const std::string& lm_head) -> std::string {
    try {
      MemoryPolicy::parse(checkpointing, mlp, lm_head, 8, "memory");
    } catch (const base::InputError& error) {
      return error.what();
    }
    return "";
  };
  const MemoryPolicy mixed = MemoryPolicy::parse("0-2: block,5:block_keep_attention , 7 : none",
                                                 "auto", "auto", 8, "memory");
  for (const std::int64_t layer : {0, 2})
    CHECK(mixed.checkpointing(layer) == Checkpointing::kBlock);
  for (const std::int64_t layer : {3, 4, 6, 7}) {
    CHECK(mixed.checkpointing(layer) == Checkpointing::kNone);
    CHECK_FALSE(mixed.mlp(layer));
  }
  CHECK(mixed.checkpointing(5) == Checkpointing::kBlockKeepAttention);
  CHECK(mixed.mlp(5));

  for (const char* text : {"blok", "", "0-8: block", "3-1: block", "0-3: blok", "x: block",
                           "0-3: block, 2: none", "-1: block", "0-3 block", "1-2-3: block"}) {
    INFO(text);
    CHECK_THAT(refusal(text, "auto", "auto"), Contains("memory.activation_checkpointing is") &&
                                                  Contains("legal: \"none\", \"block\""));
  }
  for (const char* text : {"0", "-3", "64Mib", "many", "", "0B", "1.5"}) {
    INFO(text);
    CHECK_THAT(refusal("none", text, "auto"), Contains("memory.mini_sequence.mlp is"));
    CHECK_THAT(refusal("none", "auto", text), Contains("memory.mini_sequence.lm_head is"));
  }
  CHECK_THAT(refusal("none", "none", "none"), Contains("memory.mini_sequence.lm_head is \"none\""));
}

TEST_CASE("the words of slots") {
  const auto refusal = [](const std::string& level, const std::string& mlp,
                          const SlotTexts& texts) {
    MemoryPolicy memory = MemoryPolicy::parse(level, mlp, "1", 4, "memory");
    try {
      memory.set_slots(texts, "memory.saved_inputs", /*may_be_absent=*/false);
    } catch (const base::InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  MemoryPolicy memory = MemoryPolicy::parse("0-1: block", "none", "1", 4, "memory");
  memory.set_slots({"int8+host", "full", "2: int8 ,3 : host", "3: int8", "full"}, "slots", false);
  using Codes = nn::SavePolicy::Codes;
  CHECK(memory.slots(0)[Slot::kBlockInput] == nn::SavePolicy{Codes::kBlocks, true});
  CHECK(memory.slots(2)[Slot::kAttentionQkv] == nn::SavePolicy{Codes::kBlocks, false});
  CHECK(memory.slots(3)[Slot::kAttentionQkv] == nn::SavePolicy{Codes::kNone, true});
  CHECK(memory.slots(2)[Slot::kAttentionOutput] == nn::SavePolicy{});

  const auto one = [](Slot slot, const std::string& text) {
    SlotTexts texts = SlotTexts::all("full");
    texts[slot] = text;
    return texts;
  };
  CHECK_THAT(refusal("none", "none", one(Slot::kBlockInput, "int4")),
             Contains("memory.saved_inputs.block_input is \"int4\"") && Contains("\"int8_rows\""));
  CHECK_THAT(refusal("none", "none", one(Slot::kAttentionQkv, "int8_rows")),
             Contains("memory.saved_inputs.attention_qkv is \"int8_rows\"") &&
                 Contains("legal: \"full\", \"host\", \"int8\""));
  CHECK_THAT(refusal("block", "none", one(Slot::kBlockMiddle, "int8")),
             Contains("memory.saved_inputs.block_middle is \"int8\", but layer 0 does not keep") &&
                 Contains("memory.activation_checkpointing \"block\""));
  CHECK_THAT(refusal("0: block", "none", one(Slot::kAttentionQkv, "0-3: int8")),
             Contains("layer 0 does not keep"));
  CHECK_THAT(refusal("none", "7", one(Slot::kMlpUp, "host")), Contains("memory.mini_sequence.mlp"));
  CHECK(refusal("block_keep_attention", "none", one(Slot::kAttentionOutput, "int8")).empty());
  CHECK(refusal("none", "none", SlotTexts::all("int8")).empty());
}

TEST_CASE("stochastic rounding is of all codes, and of codes alone") {
  MemoryPolicy memory = MemoryPolicy::parse("none", "none", "1", 4, "memory");
  memory.set_slots({"int8+host", "1: int8_rows", "host", "full", "full"}, "slots", false,
                   Rounding::kStochastic);
  CHECK(memory.slots(0)[Slot::kBlockInput].rounds_at_random());
  CHECK(memory.slots(1)[Slot::kBlockMiddle].rounds_at_random());
  CHECK(memory.slots(0)[Slot::kBlockMiddle] == nn::SavePolicy{});
  CHECK(memory.slots(0)[Slot::kAttentionQkv] ==
        nn::SavePolicy{nn::SavePolicy::Codes::kNone, true, Rounding::kNearest});
  CHECK(memory.rounds_at_random());
  memory.set_slots(SlotTexts::all("int8"), "slots", false);
  CHECK_FALSE(memory.rounds_at_random());
  CHECK_THROWS_WITH(
      memory.set_slots(SlotTexts::all("host"), "memory.saved_inputs", false, Rounding::kStochastic),
      Contains("memory.saved_inputs.rounding is \"stochastic\", but nothing waits"));
}

}  // namespace
}  // namespace longspan::model
