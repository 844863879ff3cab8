// Adapters of whole models, against training the model itself.
#include "longspan/model/lora.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "longspan/base/error.h"
#include "tests/model/fixture.h"

namespace longspan::model {
namespace {

using backend::Index;
using backend::MemoryTag;
using base::DType;
using Catch::Matchers::Contains;
using test::Batch;
using Tensors = std::map<std::string, std::vector<double>>;

constexpr Index kRank = 3;

LoraConfig lora_of(const std::vector<std::string>& targets, double dropout = 0.0) {
  LoraConfig lora;
  lora.rank = kRank;
  lora.alpha = 4.5;
  lora.dropout = dropout;
  lora.target_modules = targets;
  return lora;
}

/// With values that are not zero.
struct Adapted {
  Adapted(const ModelConfig& config, const LoraConfig& lora_config, const MemoryPolicy& memory = {},
          DType dtype = DType::kFloat64)
      : lora(lora_config),
        decoder(config, dtype, *backend, memory, {}, nullptr, {.lora = lora_config}) {
    decoder.parameters().initialise(5, 0.3);
    nn::ParameterSet& set = *decoder.adapters();
    for (int number = 0; number < static_cast<int>(set.parameters().size()); ++number) {
      set.begin_uniform(number, 0.3);
    }
    set.initialise(6, 0.0);
  }

  LossResult run(const Batch& batch, double scale) {
    std::vector<std::int32_t> numbers(batch.tokens.size());
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = 100 - static_cast<std::int32_t>(i);
    }
    const TokenDraws draws{3, 4, numbers};
    TokenBatch told = batch;
    told.draws = &draws;
    return decoder.forward_backward(told, scale);
  }

  Tensors named(bool gradients) {
    Tensors by_name;
    nn::ParameterSet& set = *decoder.adapters();
    int number = 0;
    for (const nn::Parameter& parameter : set.parameters()) {
      by_name[parameter.name] =
          test::values(*backend, gradients ? set.gradient(number) : set.weight(number));
      ++number;
    }
    return by_name;
  }

  std::unique_ptr<backend::Backend> backend = test::make_backend();
  LoraConfig lora;
  Decoder decoder;
};

/// c [m, n] = a [m, k] b [k, n], either as it is or stored transposed.
std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b, Index m,
                            Index k, Index n, bool a_transposed, bool b_transposed) {
  std::vector<double> c(static_cast<std::size_t>(m * n));
  for (Index i = 0; i < m; ++i) {
    for (Index l = 0; l < k; ++l) {
      const double left = a[static_cast<std::size_t>(a_transposed ? l * m + i : i * k + l)];
      for (Index j = 0; j < n; ++j) {
        c[static_cast<std::size_t>(i * n + j)] +=
            left * b[static_cast<std::size_t>(b_transposed ? j * k + l : l * n + j)];
      }
    }
  }
  return c;
}

std::vector<double> transposed(const std::vector<double>& in, Index columns) {
  const Index rows = static_cast<Index>(in.size()) / columns;
  std::vector<double> out;
  for (Index j = 0; j < columns; ++j) {
    for (Index i = 0; i < rows; ++i) out.push_back(in[static_cast<std::size_t>(i * columns + j)]);
  }
  return out;
}

std::vector<double> scaled(std::vector<double> numbers, double factor) {
  for (double& number : numbers) number *= factor;
  return numbers;
}

/// A model whose weights are W + scale B A, trained itself.
struct Merged {
  Merged(Adapted& adapted, const ModelConfig& config)
      : decoder(config, DType::kFloat64, *backend), inputs_first(stores_inputs_first(config)) {
    const Tensors low_rank = adapted.named(/*gradients=*/false);
    nn::ParameterSet& base = adapted.decoder.parameters();
    Tensors weights;
    int number = 0;
    for (const nn::Parameter& parameter : base.parameters()) {
      std::vector<double> weight = test::values(*adapted.backend, base.weight(number++));
      const std::string module = parameter.name.substr(0, parameter.name.rfind('.'));
      const auto a = low_rank.find("base_model.model." + module + ".lora_A.weight");
      if (parameter.name.ends_with(".weight") && a != low_rank.end()) {
        const auto& b = low_rank.at("base_model.model." + module + ".lora_B.weight");
        const Index outputs = static_cast<Index>(b.size()) / kRank;
        const Index inputs = static_cast<Index>(a->second.size()) / kRank;
        std::vector<double> change = product(b, a->second, outputs, kRank, inputs, false, false);
        if (inputs_first) change = transposed(change, inputs);
        for (std::size_t i = 0; i < weight.size(); ++i) {
          weight[i] += adapted.lora.scale() * change[i];
        }
      }
      weights[parameter.name] = std::move(weight);
    }
    test::load_weights(*backend, decoder, weights);
  }

  std::unique_ptr<backend::Backend> backend = test::make_backend();
  Decoder decoder;
  bool inputs_first;
};

TEST_CASE("adapters: loss and gradients follow from those of the merged model, in every family") {
  const ModelConfig config = GENERATE(from_range(test::small_configs()));
  INFO(config.model_type);
  const std::vector<std::string> names = linear_modules(config);
  const std::vector<std::string> targets =
      GENERATE_COPY(std::vector<std::string>{"all-linear"}, std::vector<std::string>{names[0]},
                    std::vector<std::string>{names.back(), names[0]});
  Adapted adapted(config, lora_of(targets));
  Merged merged(adapted, config);
  const Batch batch = test::random_batch(config, {7, 1, 0, 12, 4}, 1);
  const double nll = test::run(merged.decoder, batch, 0.1).nll_sum;
  CHECK(adapted.run(batch, 0.1).nll_sum == Approx(nll).epsilon(1e-12));
  CHECK(adapted.decoder.evaluate(batch).nll_sum == Approx(nll).epsilon(1e-12));

  const Tensors full = test::gradients(*merged.backend, merged.decoder);
  const Tensors weights = adapted.named(/*gradients=*/false);
  std::set<std::string> modules;
  for (const auto& [name, found] : adapted.named(/*gradients=*/true)) {
    INFO(name);
    const std::string module = name.substr(17, name.rfind(".lora_") - 17);
    modules.insert(module);
    const std::string stem = "base_model.model." + module;
    const auto& a = weights.at(stem + ".lora_A.weight");
    const auto& b = weights.at(stem + ".lora_B.weight");
    const Index outputs = static_cast<Index>(b.size()) / kRank;
    const Index inputs = static_cast<Index>(a.size()) / kRank;
    std::vector<double> dw = scaled(full.at(module + ".weight"), adapted.lora.scale());
    if (merged.inputs_first) dw = transposed(dw, outputs);
    const auto expected = name.ends_with("lora_A.weight")
                              ? product(b, dw, kRank, outputs, inputs, true, false)
                              : product(dw, a, outputs, inputs, kRank, false, true);
    CHECK(test::relative_distance(found, expected) <= 1e-11);
  }
  CHECK(static_cast<std::int64_t>(modules.size()) >= config.num_hidden_layers);
  std::int64_t numbers = 0;
  for (const auto& [name, values] : weights) numbers += static_cast<std::int64_t>(values.size());
  CHECK(adapter_parameters(config, adapted.lora) == numbers);
}

TEST_CASE("adapters: every way to keep and to compute again gives the same, with dropout") {
  const ModelConfig config =
      GENERATE(test::small_config(true), test::small_gpt2(), test::small_configs().back());
  const LoraConfig lora = lora_of({"all-linear"}, GENERATE(0.0, 0.3));
  const Batch batch = test::random_batch(config, {9, 5}, 2);
  Adapted plain(config, lora);
  const double nll = plain.run(batch, 0.1).nll_sum;
  const Tensors expected = plain.named(/*gradients=*/true);
  for (const std::string level : {"none", "block", "block_keep_attention"}) {
    for (const std::string ranges : {"none", "1", "3", "14"}) {
      INFO(level << ", " << ranges);
      Adapted other(config, lora,
                    MemoryPolicy::parse(level, ranges, "2", config.num_hidden_layers, "memory"));
      CHECK(other.run(batch, 0.1).nll_sum == Approx(nll).epsilon(1e-12));
      for (const auto& [name, found] : other.named(/*gradients=*/true)) {
        INFO(name);
        CHECK(test::relative_distance(found, expected.at(name)) <= 1e-11);
      }
    }
  }
}

TEST_CASE("adapters: the base has no gradients and stays as it is, bit for bit") {
  Adapted adapted(GENERATE(test::small_config(true), test::small_gpt2()), lora_of({"all-linear"}),
                  {}, DType::kFloat32);
  nn::ParameterSet& base = adapted.decoder.parameters();
  CHECK_FALSE(base.trains());
  CHECK(&adapted.decoder.trained() == adapted.decoder.adapters());
  const auto before = test::values(*adapted.backend, base.weights());
  adapted.run(test::random_batch(adapted.decoder.config(), {9, 5}, 2), 0.1);
  CHECK(test::values(*adapted.backend, base.weights()) == before);
  const auto elements = static_cast<std::uint64_t>(adapted.decoder.adapters()->elements());
  CHECK(adapted.backend->ledger().peak(MemoryTag::kGradients) < 4 * elements + 4096);
}

/// The base's weights of a unit after another, as they are while it is open.
Tensors opened(backend::Backend& backend, nn::ParameterSet& base) {
  Tensors weights;
  base.settle_packed();
  for (int unit = 0; unit <= base.parameters().back().unit; ++unit) {
    base.open(unit, nn::Use::kWeights);
    int number = 0;
    for (const nn::Parameter& parameter : base.parameters()) {
      if (parameter.unit == unit)
        weights[parameter.name] = test::values(backend, base.weight(number));
      ++number;
    }
    base.close(unit);
  }
  return weights;
}

TEST_CASE("adapters beside a packed base: the bits of one that has its values whole") {
  for (const ModelConfig& config : test::small_configs()) {
    if (stores_inputs_first(config)) continue;
    INFO(config.model_type);
    LoraConfig lora = lora_of({"all-linear"});
    const DType dtype = DType::kFloat32;
    lora.packs_base = true;
    Adapted packed(config, lora, {}, dtype);
    lora.packs_base = false;
    Adapted whole(config, lora, {}, dtype);
    const Tensors exact = opened(*whole.backend, whole.decoder.parameters());
    const Tensors coded = opened(*packed.backend, packed.decoder.parameters());
    std::size_t changed = 0;
    for (const auto& [name, values] : exact) changed += coded.at(name) != values ? 1 : 0;
    CHECK(changed == targeted_modules(config, {"all-linear"}).size());
    test::load_weights(*whole.backend, whole.decoder, coded);
    const Batch batch = test::random_batch(config, {7, 1, 0, 12, 4}, 1);
    CHECK(packed.run(batch, 0.1).nll_sum == whole.run(batch, 0.1).nll_sum);
    CHECK(packed.named(/*gradients=*/true) == whole.named(/*gradients=*/true));
    CHECK(packed.decoder.evaluate(batch).nll_sum == whole.decoder.evaluate(batch).nll_sum);
  }
}

TEST_CASE("adapters of single layers, and targets that are none") {
  const ModelConfig config = test::small_config(false);
  Adapted second(config, lora_of({"model.layers.1.mlp.down_proj", "layers.1.self_attn.q_proj"}));
  second.run(test::random_batch(config, {9, 5}, 2), 0.1);
  CHECK(second.named(true).size() == 4);
  Adapted first(config, lora_of({"model.layers.0.mlp.down_proj"}));
  first.run(test::random_batch(config, {9, 5}, 2), 0.1);
  CHECK(first.named(true).size() == 2);

  const auto refusal = [](const ModelConfig& of, const std::vector<std::string>& targets) {
    try {
      check_targets(targets, of, "adapter.target_modules");
    } catch (const base::InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(refusal(config, {"q_proj", "model.layers.1.mlp.up_proj"}).empty());
  CHECK_THAT(refusal(config, {"q_proj", "c_attn"}),
             Contains("adapter.target_modules names \"c_attn\"") &&
                 Contains("q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"));
  CHECK_THAT(refusal(config, {"lm_head"}), Contains("lm_head"));
  CHECK_THAT(refusal(config, {"model.layers.2.mlp.up_proj"}), Contains("layers.2"));
  CHECK_THAT(refusal(config, {"q_proj", "all-linear"}), Contains("beside others"));
  CHECK_THAT(refusal(test::small_gpt2(), {"q_proj"}), Contains("some of c_attn, c_proj, c_fc"));
}

TEST_CASE("adapters: the scale, and what a step costs") {
  LoraConfig lora = lora_of({"q_proj"});
  CHECK(lora.scale() == 1.5);
  lora.rank_stabilized = true;
  CHECK(lora.scale() == Approx(4.5 / std::sqrt(3.0)));
  const ModelConfig config = test::small_config(false);
  // q_proj is [16, 16]: rank 3 of 2 layers.
  CHECK(adapter_parameters(config, lora) == 2 * 3 * 32);
  const double products = config.matmul_weights();
  CHECK(config.training_flops({0, 10}) - adapter_training_flops(config, lora, {0, 10}) ==
        10.0 * (2.0 * products - 6.0 * 2 * 3 * 32));
}

}  // namespace
}  // namespace longspan::model
