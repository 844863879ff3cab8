// What must hold between runs of one model.
#include "longspan/model/decoder.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "longspan/base/error.h"
#include "tests/model/fixture.h"

namespace longspan::model {
namespace {

using backend::Index;
using backend::kIgnoredLabel;
using backend::MemoryTag;
using base::DType;
using Catch::Matchers::Contains;
using test::Batch;

struct Model {
  std::unique_ptr<backend::Backend> backend = test::make_backend();
  Decoder decoder;

  explicit Model(const ModelConfig& config, DType dtype = DType::kFloat64)
      : decoder(config, dtype, *backend) {
    decoder.parameters().initialise(5, 0.3);
  }
  explicit Model(bool tied) : Model(test::small_config(tied)) {}

  /// The gradients since the last call.
  std::map<std::string, std::vector<double>> take_gradients() {
    auto gradients = test::gradients(*backend, decoder);
    backend->zero(decoder.parameters().gradients());
    return gradients;
  }
};

void check_same_gradients(const std::map<std::string, std::vector<double>>& a,
                          const std::map<std::string, std::vector<double>>& b) {
  for (const auto& [name, expected] : b) {
    INFO(name);
    CHECK(test::relative_distance(a.at(name), expected) <= 1e-12);
  }
}

TEST_CASE("packed documents, separate documents and accumulated micro-batches are one") {
  Model model(GENERATE(from_range(test::small_configs())));
  const Batch packed = test::random_batch(model.decoder.config(), {7, 1, 0, 12, 4}, 1);
  const LossResult together = test::run(model.decoder, packed, 0.1);
  const auto gradients = model.take_gradients();

  LossResult apart;
  for (std::size_t i = 0; i < packed.documents(); ++i) {
    const LossResult one = test::run(model.decoder, packed.document(i), 0.1);
    apart.nll_sum += one.nll_sum;
    apart.targets += one.targets;
  }
  CHECK(apart.nll_sum == Approx(together.nll_sum).epsilon(1e-13));
  CHECK(apart.targets == together.targets);
  check_same_gradients(model.take_gradients(), gradients);
}

TEST_CASE("a document's loss does not see its neighbours") {
  Model model(true);
  Batch batch = test::random_batch(model.decoder.config(), {6, 9}, 2);
  std::fill(batch.labels.begin() + 6, batch.labels.end(), kIgnoredLabel);
  const double before = test::run(model.decoder, batch, 1.0).nll_sum;
  for (std::size_t t = 6; t < 15; ++t) batch.tokens[t] = (batch.tokens[t] + 1) % 50;
  CHECK(test::run(model.decoder, batch, 1.0).nll_sum == before);
  batch.tokens[3] = (batch.tokens[3] + 1) % 50;
  CHECK(test::run(model.decoder, batch, 1.0).nll_sum != before);
}

TEST_CASE("masked labels add nothing, and the scale multiplies the gradients alone") {
  Model model(false);
  Batch batch = test::random_batch(model.decoder.config(), {16}, 3);
  const LossResult all = test::run(model.decoder, batch, 1.0);
  const auto gradients = model.take_gradients();

  Batch even = batch;
  Batch odd = batch;
  for (std::size_t t = 0; t < 16; ++t) (t % 2 == 0 ? odd : even).labels[t] = kIgnoredLabel;
  const LossResult part = test::run(model.decoder, even, 1.0);
  const LossResult rest = test::run(model.decoder, odd, 1.0);
  CHECK(part.targets == 8);
  CHECK(part.nll_sum + rest.nll_sum == Approx(all.nll_sum).epsilon(1e-13));
  check_same_gradients(model.take_gradients(), gradients);

  CHECK(test::run(model.decoder, batch, 0.25).nll_sum == all.nll_sum);
  auto scaled = model.take_gradients();
  for (auto& [name, gradient] : scaled) {
    for (double& value : gradient) value *= 4.0;
  }
  check_same_gradients(scaled, gradients);
}

TEST_CASE("no label to train on gives zero gradients") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  Model model(test::small_config(true), dtype);
  if (!model.backend->supports(dtype, nullptr)) return;
  Batch batch = test::random_batch(model.decoder.config(), {5, 3}, 4);
  std::fill(batch.labels.begin(), batch.labels.end(), kIgnoredLabel);
  const LossResult result = test::run(model.decoder, batch, 1.0);
  CHECK(result.nll_sum == 0.0);
  CHECK(result.targets == 0);
  CHECK(model.backend->sum_of_squares(model.decoder.parameters().gradients()) == 0.0);
}

TEST_CASE("an empty micro-batch is legal and does nothing") {
  Model model(true);
  const LossResult result = test::run(model.decoder, {{}, {}, {}, {0, 0}}, 1.0);
  CHECK(result.targets == 0);
  CHECK(model.backend->sum_of_squares(model.decoder.parameters().gradients()) == 0.0);
}

TEST_CASE("a tied head adds its gradient to the embedding's") {
  Model untied(false);
  Model tied(true);
  auto weights = std::map<std::string, std::vector<double>>();
  int number = 0;
  for (const nn::Parameter& parameter : tied.decoder.parameters().parameters()) {
    weights[parameter.name] =
        test::values(*tied.backend, tied.decoder.parameters().weight(number++));
  }
  weights["lm_head.weight"] = weights.at("model.embed_tokens.weight");
  test::load_weights(*untied.backend, untied.decoder, weights);

  const Batch batch = test::random_batch(tied.decoder.config(), {10}, 5);
  CHECK(test::run(tied.decoder, batch, 1.0).nll_sum ==
        test::run(untied.decoder, batch, 1.0).nll_sum);
  auto expected = untied.take_gradients();
  std::vector<double>& embedding = expected.at("model.embed_tokens.weight");
  const std::vector<double>& head = expected.at("lm_head.weight");
  for (std::size_t i = 0; i < head.size(); ++i) embedding[i] += head[i];
  expected.erase("lm_head.weight");
  check_same_gradients(tied.take_gradients(), expected);
}

/// -log softmax(logits)[label].
double nll_of(const std::vector<float>& logits, std::int32_t label) {
  double partition = 0.0;
  for (const float logit : logits) partition += std::exp(static_cast<double>(logit));
  return std::log(partition) - static_cast<double>(logits[static_cast<std::size_t>(label)]);
}

TEST_CASE("generation from the cache sees what the whole forward sees, token by token") {
  const DType dtype = GENERATE(DType::kFloat64, DType::kFloat32);
  Model model(GENERATE(from_range(test::small_configs())), dtype);
  const Batch batch = test::random_batch(model.decoder.config(), {12}, 6);
  KvCache cache = model.decoder.make_cache(12);
  std::size_t done = 0;
  for (const std::size_t count : {5U, 1U, 1U, 3U, 1U, 1U}) {
    const std::vector<std::int32_t> next(batch.tokens.begin() + static_cast<Index>(done),
                                         batch.tokens.begin() + static_cast<Index>(done + count));
    const std::vector<float> logits = model.decoder.next_logits(next, cache);
    done += count;
    REQUIRE(cache.length == static_cast<std::int64_t>(done));
    REQUIRE(logits.size() == 50);
    // The whole forward of the prefix, asked for each label at its last token.
    Batch prefix = test::random_batch(model.decoder.config(), {static_cast<std::int32_t>(done)}, 6);
    for (std::int32_t label = 0; label < 50; label += 7) {
      std::fill(prefix.labels.begin(), prefix.labels.end(), kIgnoredLabel);
      prefix.labels.back() = label;
      const LossResult whole = model.decoder.evaluate(prefix);
      CHECK(nll_of(logits, label) == Approx(whole.nll_sum).epsilon(1e-5));
    }
  }
  CHECK_THROWS_AS(model.decoder.next_logits({1}, cache), base::InputError);
  CHECK(cache.length == 12);
}

/// Every family, and positions that are scaled: documents are longer than what they began with.
std::vector<ModelConfig> configs_for_generation() {
  std::vector<ModelConfig> configs = test::small_configs();
  for (const char* rope_type : {"llama3", "yarn", "linear"}) {
    ModelConfig config = test::small_sizes();
    config.rope_scaling.rope_type = rope_type;
    config.rope_scaling.factor = 4;
    if (std::string(rope_type) != "linear") {
      config.rope_scaling.original_max_position_embeddings = 8;
    }
    if (std::string(rope_type) == "llama3") {
      config.rope_scaling.low_freq_factor = 1;
      config.rope_scaling.high_freq_factor = 4;
    }
    config.resolve("model");
    configs.push_back(config);
  }
  return configs;
}

TEST_CASE("at every position the cache gives the loss of the whole forward, past all windows") {
  Model model(GENERATE(from_range(configs_for_generation())));
  INFO(model.decoder.config().model_type << model.decoder.config().rope_scaling.rope_type);
  const std::int32_t length = 23;
  const Batch batch = test::random_batch(model.decoder.config(), {length}, 12);
  std::vector<double> nll;
  model.decoder.evaluate(batch, &nll);
  REQUIRE(nll.size() == static_cast<std::size_t>(length));
  // Token by token, then in portions, of which one crosses a window's length; the
  // cache grows on the way.
  for (const std::vector<std::size_t>& counts :
       {std::vector<std::size_t>(23, 1), {9, 1, 6, 1, 1, 5}}) {
    KvCache cache = model.decoder.make_cache(9);
    std::size_t done = 0;
    for (const std::size_t count : counts) {
      if (cache.length + static_cast<std::int64_t>(count) > cache.capacity()) {
        model.decoder.grow_cache(cache, cache.capacity() + 7);
      }
      const auto begin = batch.tokens.begin() + static_cast<Index>(done);
      const std::vector<float> logits =
          model.decoder.next_logits({begin, begin + static_cast<Index>(count)}, cache);
      done += count;
      CHECK(nll_of(logits, batch.labels[done - 1]) == Approx(nll[done - 1]).epsilon(1e-5));
    }
    CHECK(cache.length == length);
    CHECK(cache.capacity() == 23);
  }
}

TEST_CASE("each token's own loss: a document's are those of it alone, and their sum is the loss") {
  const DType dtype = GENERATE(DType::kFloat64, DType::kFloat32);
  Model model(GENERATE(from_range(test::small_configs())), dtype);
  Batch batch = test::random_batch(model.decoder.config(), {7, 1, 12}, 13);
  batch.labels[2] = batch.labels[19] = kIgnoredLabel;
  std::vector<double> nll;
  const LossResult whole = model.decoder.evaluate(batch, &nll);
  CHECK(whole.nll_sum == model.decoder.evaluate(batch).nll_sum);
  CHECK(whole.targets == 18);
  CHECK(nll[2] == 0.0);
  CHECK(nll[19] == 0.0);
  const double epsilon = dtype == DType::kFloat64 ? 1e-13 : 1e-5;
  CHECK(std::accumulate(nll.begin(), nll.end(), 0.0) == Approx(whole.nll_sum).epsilon(epsilon));
  std::size_t token = 0;
  for (std::size_t i = 0; i < batch.documents(); ++i) {
    std::vector<double> own;
    model.decoder.evaluate(batch.document(i), &own);
    for (const double loss : own) CHECK(nll[token++] == Approx(loss).epsilon(epsilon));
  }
}

TEST_CASE("a model that is only read has no gradients") {
  const auto backend = test::make_backend();
  Decoder reader(test::small_config(true), DType::kFloat32, *backend, {}, {.trains = false});
  CHECK(backend->ledger().live(MemoryTag::kGradients) == 0);
  Model other(test::small_config(true), DType::kFloat32);
  reader.parameters().initialise(5, 0.3);
  const Batch batch = test::random_batch(reader.config(), {9}, 14);
  CHECK(reader.evaluate(batch).nll_sum == other.decoder.evaluate(batch).nll_sum);
  CHECK_THROWS_AS(test::run(reader, batch, 1.0), base::InternalError);
}

TEST_CASE("ids outside the vocabulary and broken batches are refused before any work") {
  Model model(true);
  const Batch good = test::random_batch(model.decoder.config(), {6}, 7);
  Batch bad = good;
  bad.tokens[4] = 50;
  CHECK_THROWS_AS(test::run(model.decoder, bad, 1.0), base::InputError);
  bad = good;
  bad.labels[0] = -1;
  CHECK_THROWS_AS(test::run(model.decoder, bad, 1.0), base::InputError);
  bad = good;
  bad.positions.pop_back();
  CHECK_THROWS_AS(test::run(model.decoder, bad, 1.0), base::InternalError);
  for (const std::vector<std::int32_t>& cu_seqlens :
       {std::vector<std::int32_t>{}, {0, 5}, {1, 6}, {0, 4, 3, 6}}) {
    bad = good;
    bad.cu_seqlens = cu_seqlens;
    CHECK_THROWS_AS(test::run(model.decoder, bad, 1.0), base::InternalError);
  }
  KvCache cache = model.decoder.make_cache(4);
  CHECK_THROWS_AS(model.decoder.next_logits({50}, cache), base::InputError);
  CHECK(cache.length == 0);
  CHECK(model.backend->sum_of_squares(model.decoder.parameters().gradients()) == 0.0);
}

/// Bytes that a pass of `tokens` (a multiple of 64: no rounding) keeps for its backward.
std::size_t saved_bytes(const ModelConfig& c, std::size_t tokens, std::size_t activation) {
  const auto hidden = static_cast<std::size_t>(c.hidden_size);
  const auto heads = static_cast<std::size_t>(c.num_attention_heads);
  const auto head_dim = static_cast<std::size_t>(c.head_dim);
  const std::size_t q = heads * head_dim;
  const std::size_t kv = static_cast<std::size_t>(c.num_key_value_heads) * head_dim;
  const bool is_llama = c.model_type != "gpt2";  // or made after it
  const std::size_t up =
      (is_llama ? 2U : 1U) * static_cast<std::size_t>(c.intermediate_size);  // with the gate
  const std::size_t norm = is_llama ? 1 : 2;                                 // rstd; mean and rstd
  const std::size_t statistic = 4;
  // What norms within attention and MLP went over, with statistics: q and k, the two outputs.
  const bool norms_heads = c.model_type == "qwen3" || c.model_type == "gemma3_text";
  const bool norms_outputs = c.model_type.starts_with("gemma");
  const std::size_t inner = (norms_heads ? q + kv : 0) + (norms_outputs ? 2 * hidden : 0);
  const std::size_t inner_statistics =
      (norms_heads ? heads + kv / head_dim : 0) + (norms_outputs ? 2 : 0);
  // x, mid, qkv, attention output, up; two norms' statistics and the log-sum-exp.
  const std::size_t layer = activation * (2 * hidden + q + 2 * kv + q + up + inner) +
                            statistic * (2 * norm + heads + inner_statistics);
  // The last block's output and its norm (then gradient), its statistics, rope tables, ids,
  // positions.
  const std::size_t table = (c.model_type == "gemma3_text" ? 2U : is_llama ? 1U : 0U) * head_dim;
  const std::size_t ends = activation * 2 * hidden + statistic * (norm + table) + 4 + 4;
  return tokens * (static_cast<std::size_t>(c.num_hidden_layers) * layer + ends);
}

TEST_CASE("what a pass keeps is the documented formula, linear in tokens, and is given back") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const ModelConfig config = GENERATE(from_range(test::small_configs()));
  for (const std::int32_t tokens : {64, 256, 1024}) {
    Model model(config, dtype);
    if (!model.backend->supports(dtype, nullptr)) return;
    const backend::Ledger& ledger = model.backend->ledger();
    const std::size_t before = ledger.live_total();
    const Batch batch = test::random_batch(model.decoder.config(), {tokens}, 8);
    model.decoder.evaluate(batch);
    CHECK(ledger.peak(MemoryTag::kSaved) == 0);
    test::run(model.decoder, batch, 1.0);
    CHECK(ledger.peak(MemoryTag::kSaved) == saved_bytes(model.decoder.config(),
                                                        static_cast<std::size_t>(tokens),
                                                        base::size_of(dtype)));
    CHECK(ledger.live(MemoryTag::kSaved) == 0);
    CHECK(ledger.live_total() == before);
  }
}

TEST_CASE("workspace of a pass is linear in tokens") {
  std::vector<std::size_t> peaks;
  for (const std::int32_t tokens : {1024, 2048, 4096}) {
    Model model(test::small_config(true), DType::kFloat32);
    const Batch batch = test::random_batch(model.decoder.config(), {tokens}, 9);
    test::run(model.decoder, batch, 1.0);
    peaks.push_back(model.backend->ledger().peak(MemoryTag::kWorkspace));
  }
  CHECK(peaks[1] <= 2 * peaks[0]);
  CHECK(peaks[2] <= 2 * peaks[1]);
}

TEST_CASE("names and shapes are Hugging Face's; first values depend on the seed alone") {
  Model model(false);
  const auto& parameters = model.decoder.parameters().parameters();
  std::vector<std::string> names;
  std::int64_t elements = 0;
  for (const nn::Parameter& parameter : parameters) {
    names.push_back(parameter.name);
    elements += parameter.shape.elements();
  }
  REQUIRE(names.size() == 2 * 9 + 3);
  CHECK(std::vector<std::string>(names.begin(), names.begin() + 10) ==
        std::vector<std::string>{
            "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
            "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
            "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight",
            "model.layers.0.post_attention_layernorm.weight", "model.layers.0.mlp.gate_proj.weight",
            "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"});
  CHECK(names[19] == "model.norm.weight");
  CHECK(names[20] == "lm_head.weight");
  CHECK(elements == model.decoder.config().parameters());
  CHECK(parameters[7].shape == backend::Shape{24, 16});
  CHECK(parameters[9].shape == backend::Shape{16, 24});

  Model again(false);
  Model other(false);
  other.decoder.parameters().initialise(6, 0.3);
  const auto weights = test::values(*model.backend, model.decoder.parameters().weights());
  CHECK(test::values(*again.backend, again.decoder.parameters().weights()) == weights);
  CHECK(test::values(*other.backend, other.decoder.parameters().weights()) != weights);
}

TEST_CASE("GPT-2: names, shapes and first values are transformers'") {
  ModelConfig config = test::small_gpt2();
  config.hidden_size = 256;
  config.head_dim = 64;
  config.intermediate_size = 512;
  Model model(config);
  nn::ParameterSet& set = model.decoder.parameters();
  set.initialise(5, 0.02);
  const std::pair<const char*, backend::Shape> expected[] = {
      {"transformer.wte.weight", {50, 256}},
      {"transformer.wpe.weight", {1024, 256}},
      {"transformer.h.0.ln_1.weight", {256}},
      {"transformer.h.0.ln_1.bias", {256}},
      {"transformer.h.0.attn.c_attn.weight", {256, 768}},
      {"transformer.h.0.attn.c_attn.bias", {768}},
      {"transformer.h.0.attn.c_proj.weight", {256, 256}},
      {"transformer.h.0.attn.c_proj.bias", {256}},
      {"transformer.h.0.ln_2.weight", {256}},
      {"transformer.h.0.ln_2.bias", {256}},
      {"transformer.h.0.mlp.c_fc.weight", {256, 512}},
      {"transformer.h.0.mlp.c_fc.bias", {512}},
      {"transformer.h.0.mlp.c_proj.weight", {512, 256}},
      {"transformer.h.0.mlp.c_proj.bias", {256}},
  };
  std::int64_t elements = 0;
  for (const nn::Parameter& parameter : set.parameters()) elements += parameter.shape.elements();
  CHECK(elements == config.parameters());
  REQUIRE(set.parameters().size() == 2 + 2 * 12 + 2);
  CHECK(set.at(26).name == "transformer.ln_f.weight");
  CHECK(set.at(27).name == "transformer.ln_f.bias");
  int number = 0;
  for (const auto& [name, shape] : expected) {
    INFO(name);
    CHECK(set.at(number).name == name);
    CHECK(set.at(number).shape == shape);
    const std::string word(name);
    const auto values = test::values(*model.backend, set.weight(number));
    double squares = 0.0;
    for (const double value : values) squares += value * value;
    const double deviation = std::sqrt(squares / static_cast<double>(values.size()));
    const bool is_norm = word.find("ln_") != std::string::npos;
    const bool is_residual = word.find("c_proj") != std::string::npos;
    const double wanted = word.ends_with("bias") ? 0.0 : is_norm ? 1.0 : is_residual ? 0.01 : 0.02;
    CHECK(deviation == Approx(wanted).epsilon(0.02).margin(1e-12));  // two layers: 1 / sqrt(4)
    ++number;
  }
}

TEST_CASE("learned positions end where their table does") {
  ModelConfig config = test::small_gpt2();
  config.max_position_embeddings = 8;
  Model model(config);
  test::run(model.decoder, test::random_batch(config, {8, 3}, 1), 1.0);
  CHECK_THROWS_WITH(test::run(model.decoder, test::random_batch(config, {3, 9}, 1), 1.0),
                    Contains("position 8") && Contains("max_position_embeddings"));
  KvCache cache = model.decoder.make_cache(20);
  model.decoder.next_logits({1, 2, 3, 4, 5, 6, 7}, cache);
  CHECK_THROWS_AS(model.decoder.next_logits({8, 9}, cache), base::InputError);
  CHECK(cache.length == 7);
  model.decoder.next_logits({8}, cache);
}

TEST_CASE("one step down the gradient lowers the loss by its square") {
  Model model(GENERATE(from_range(test::small_configs())));
  const Batch batch = test::random_batch(model.decoder.config(), {20, 11}, 10);
  const double before = test::run(model.decoder, batch, 1.0).nll_sum;
  const backend::Tensor& weights = model.decoder.parameters().weights();
  const backend::Tensor& gradients = model.decoder.parameters().gradients();
  const double squares = model.backend->sum_of_squares(gradients);
  const double rate = 1e-7 * before / squares;
  for (Index i = 0; i < weights.elements(); ++i) {
    weights.data<double>()[i] -= rate * gradients.data<double>()[i];
  }
  const double after = model.decoder.evaluate(batch).nll_sum;
  CHECK((before - after) == Approx(rate * squares).epsilon(1e-4));
}

}  // namespace
}  // namespace longspan::model
