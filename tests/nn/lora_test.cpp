#include "longspan/nn/lora.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/nn/linear.h"
#include "longspan/nn/mlp.h"
#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Index;
using backend::Tensor;
using test::LayerBench;

constexpr Index kTokens = 7;

LoraOptions options_of(const std::vector<std::string>& targets, double dropout = 0.0) {
  return {.rank = 2, .scale = 1.5, .dropout = dropout, .targets = {targets}};
}

/// A frozen linear layer with adapters, all with random values.
struct Bench : LayerBench {
  Bench(const std::vector<Linear::Part>& parts, Index inputs, const LoraOptions& lora,
        const LinearOptions& options = {})
      : adapters{&low_rank, lora}, linear(base, parts, inputs, with(options, &adapters)) {
    fill(base, {.trains = false});
    fill(low_rank);
  }

  static LinearOptions with(LinearOptions options, const Adapters* adapters) {
    options.methods.adapters = adapters;
    return options;
  }

  /// With numbers of tokens that are not their places.
  Pass draws(std::uint64_t step = 3) {
    Pass pass = this->pass({kTokens});
    pass.set_draws({.seed = 9, .step = step, .numbers = ids({90, 3, 11, 12, 700, 5, 1})});
    return pass;
  }

  ParameterSet base;
  ParameterSet low_rank;
  Adapters adapters;
  Linear linear;
};

TEST_CASE("lora: targets are modules' names, or ends of them behind a dot") {
  const std::string name = "model.layers.0.self_attn.q_proj";
  CHECK(options_of({"q_proj"}).targets.contain(name));
  CHECK(options_of({"k_proj", "self_attn.q_proj"}).targets.contain(name));
  CHECK(options_of({name}).targets.contain(name));
  CHECK(options_of({"all-linear"}).targets.contain(name));
  CHECK_FALSE(options_of({"proj"}).targets.contain(name));
  CHECK_FALSE(options_of({"k_proj"}).targets.contain(name));
  CHECK_FALSE(options_of({}).targets.contain(name));
}

TEST_CASE("lora: names, shapes and first values are PEFT's") {
  LayerBench bench;
  ParameterSet base;
  ParameterSet set;
  const Adapters adapters{&set, options_of({"q_proj", "v_proj"})};
  const Linear linear(base, {{"l.q_proj", 6}, {"l.k_proj", 4}, {"l.v_proj", 4}}, 25,
                      {.methods = {.adapters = &adapters}});
  REQUIRE(set.parameters().size() == 4);
  CHECK(set.at(0).name == "base_model.model.l.q_proj.lora_A.weight");
  CHECK(set.at(0).shape == backend::Shape{2, 25});
  CHECK(set.at(1).name == "base_model.model.l.v_proj.lora_A.weight");
  CHECK(set.at(2).name == "base_model.model.l.q_proj.lora_B.weight");
  CHECK(set.at(2).shape == backend::Shape{6, 2});
  CHECK(set.at(3).shape == backend::Shape{4, 2});
  set.allocate(bench.backend(), base::DType::kFloat64);
  set.initialise(5, 1.0);
  const base::RandomStream stream(5, base::Purpose::kInitialWeight, 1, 1);
  for (std::uint64_t i = 0; i < 50; ++i) {
    CHECK(set.weight(1).data<double>()[i] == Approx(0.2 * (2.0 * stream.uniform(i) - 1.0)));
  }
  for (const int b : {2, 3}) {
    for (const double value : LayerBench::values(set.weight(b))) CHECK(value == 0.0);
  }
  const Linear plain(base, {{"l.o_proj", 6}}, 4,
                     {.methods = {.adapters = &adapters}});  // no target
  CHECK(set.parameters().size() == 4);
  CHECK_FALSE((linear.outputs() == 0 || plain.outputs() == 0));
}

/// y = x W^T + s drop(x) A^T B^T by plain loops, of what is written into `dropped`.
std::vector<double> expected_outputs(const Bench& bench, const Tensor& x,
                                     const std::vector<double>& dropped) {
  const auto& set = bench.low_rank;
  const Index inputs = bench.linear.inputs();
  std::vector<double> out;
  for (Index t = 0; t < kTokens; ++t) {
    for (Index o = 0; o < 6; ++o) {
      double sum = 0.0;
      for (Index i = 0; i < inputs; ++i) {
        sum += x.data<double>()[t * inputs + i] *
               bench.base.joined_weight(0, 2).data<double>()[o * inputs + i];
      }
      // Of the parts [0, 4) and [4, 6), the second is adapted.
      for (Index k = 0; o >= 4 && k < 2; ++k) {
        double row = 0.0;
        for (Index i = 0; i < inputs; ++i) {
          row += dropped[static_cast<std::size_t>(t * inputs + i)] *
                 set.weight(0).data<double>()[k * inputs + i];
        }
        sum += 1.5 * row * set.weight(1).data<double>()[(o - 4) * 2 + k];
      }
      out.push_back(sum);
    }
  }
  return out;
}

TEST_CASE("lora: the forward by plain loops, with dropout and without") {
  const double dropout = GENERATE(0.0, 0.4);
  Bench bench({{"q", 4}, {"k", 2}}, 5, options_of({"k"}, dropout));
  Pass pass = bench.draws();
  const Tensor x = bench.random({kTokens, 5});
  const Tensor out = bench.empty({kTokens, 6});
  bench.linear.forward(out, x, pass);
  const Tensor dropped = bench.empty({kTokens, 5});
  bench.backend().dropout(dropped, x, pass.draws()->numbers, {9, base::Purpose::kDropout, 3, 0},
                          dropout);
  const auto expected = expected_outputs(bench, x, LayerBench::values(dropped));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(out.data<double>()[i] == Approx(expected[i]).epsilon(1e-12));
  }
  CHECK((LayerBench::values(dropped) != LayerBench::values(x)) == (dropout > 0.0));
}

TEST_CASE("lora: gradients of A, B and x match finite differences") {
  const bool joined = GENERATE(true, false);
  const double dropout = GENERATE(0.0, 0.4);
  const LinearOptions linear{.has_bias = !joined, .inputs_first = !joined};
  const std::vector<Linear::Part> parts =
      joined ? std::vector<Linear::Part>{{"q", 4}, {"k", 2}, {"v", 3}}
             : std::vector<Linear::Part>{{"q", 9}};
  Bench bench(parts, 5,
              options_of(joined ? std::vector<std::string>{"q", "v"}
                                : std::vector<std::string>{"all-linear"},
                         dropout),
              linear);
  Pass pass = bench.draws();
  const Tensor x = bench.random({kTokens, 5});
  const Tensor cotangent = bench.random({kTokens, 9});
  const Tensor out = bench.empty({kTokens, 9});
  const auto loss = [&] {
    bench.linear.forward(out, x, pass);
    return test::dot(out, cotangent);
  };
  const Tensor dx = bench.empty({kTokens, 5});
  bench.linear.backward(dx, cotangent, x, pass);
  test::check_gradient("x", x, LayerBench::values(dx), loss);
  test::check_parameter_gradients(bench.low_rank, loss);

  // The halves are the whole, and gradients add up; dx may be x.
  const std::vector<double> once = LayerBench::values(bench.low_rank.gradients());
  bench.linear.backward_weight(cotangent, x, pass);
  bench.linear.backward_input(x, cotangent, pass);
  const std::vector<double> twice = LayerBench::values(bench.low_rank.gradients());
  for (std::size_t i = 0; i < once.size(); ++i) CHECK(twice[i] == Approx(2.0 * once[i]));
  CHECK(LayerBench::values(x) == LayerBench::values(dx));
  CHECK(pass.slots() == 0);
}

TEST_CASE("lora: nothing is dropped in a pass that does not train, and other steps drop others") {
  Bench bench({{"q", 4}}, 5, options_of({"q"}, 0.5));
  const Tensor x = bench.random({kTokens, 5});
  const auto run = [&](Pass& pass) {
    const Tensor out = bench.empty({kTokens, 4});
    bench.linear.forward(out, x, pass);
    return LayerBench::values(out);
  };
  Pass plain = bench.pass({kTokens});
  Pass third = bench.draws(3);
  Pass again = bench.draws(3);
  Pass fourth = bench.draws(4);
  CHECK(run(third) == run(again));
  CHECK(run(third) != run(fourth));
  CHECK(run(third) != run(plain));
}

/// Runs an MLP of adapters with dropout, whole or in ranges; what it gives and all gradients.
std::vector<std::vector<double>> run_mlp(const Mlp::Portions& ranges) {
  LayerBench bench;
  ParameterSet base;
  ParameterSet set;
  const Adapters adapters{&set, options_of({"all-linear"}, 0.3)};
  MlpProjections projections = test::normed_mlp();
  projections.up_options.methods.adapters = &adapters;
  projections.down_options.methods.adapters = &adapters;
  const Mlp mlp(base, projections, Activation::kSwiGlu, 4, 6);
  bench.fill(base, {.trains = false});
  bench.fill(set);
  Pass pass = bench.pass({kTokens});
  pass.set_draws({.seed = 9, .step = 1, .numbers = bench.ids({0, 1, 2, 3, 4, 5, 6})});
  const Tensor x = bench.random({kTokens, 4});
  const Tensor out = bench.empty({kTokens, 4});
  const Tensor dx = bench.empty({kTokens, 4});
  const Tensor dy = bench.random({kTokens, 4});
  mlp.forward(out, x, pass, ranges);
  mlp.backward(dx, dy, x, pass, ranges);
  CHECK(pass.slots() == 0);
  CHECK(pass.first_token() == 0);
  return {LayerBench::values(out), LayerBench::values(dx), LayerBench::values(set.gradients())};
}

TEST_CASE("lora: an MLP in ranges of tokens is the whole one, masks included") {
  const auto whole = run_mlp({});
  for (const Index count : {1, 2, 3, 7}) {
    INFO(count << " ranges");
    const auto parts = run_mlp(MiniSequence::count(count));
    for (std::size_t which = 0; which < whole.size(); ++which) {
      for (std::size_t i = 0; i < whole[which].size(); ++i) {
        CHECK(parts[which][i] == Approx(whole[which][i]).epsilon(1e-12).margin(1e-13));
      }
    }
  }
}

}  // namespace
}  // namespace longspan::nn
