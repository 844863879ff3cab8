#include "longspan/nn/mlp.h"

#include <catch2/catch.hpp>

#include "tests/nn/layer_bench.h"
#include "tests/support/relative_distance.h"

namespace longspan::nn {
namespace {

using backend::Index;
using backend::Tensor;
using test::LayerBench;

struct Kind {
  Activation activation;
  MlpProjections projections;
};

std::vector<Kind> all_kinds() {
  MlpProjections biased_gated = test::gated_mlp();
  biased_gated.up_options.has_bias = true;
  return {{Activation::kSwiGlu, test::gated_mlp()},
          {Activation::kSwiGlu, biased_gated},
          {Activation::kGeluTanh, test::biased_mlp()},
          {Activation::kGeGluTanh, test::gated_mlp()},
          {Activation::kSwiGlu, test::normed_mlp()}};
}

TEST_CASE("mlp: names and shapes of its parameters") {
  ParameterSet set;
  const Mlp gated(set, test::gated_mlp(), Activation::kSwiGlu, 4, 7);
  const Mlp biased(set, test::biased_mlp(), Activation::kGeluTanh, 4, 7);
  std::string names;
  for (const Parameter& parameter : set.parameters()) names += parameter.name + " ";
  CHECK(names ==
        "gate_proj.weight up_proj.weight down_proj.weight "
        "c_fc.weight c_fc.bias c_proj.weight c_proj.bias ");
  CHECK(set.at(2).shape == backend::Shape{4, 7});
  CHECK(set.at(3).shape == backend::Shape{4, 7});
  CHECK(set.at(4).shape == backend::Shape{7});
}

TEST_CASE("mlp: its backward matches finite differences, in place too") {
  LayerBench bench;
  ParameterSet set;
  const Kind kind = GENERATE(from_range(all_kinds()));
  const int ranges = GENERATE(0, 1, 2, 4, 6);  // 0: whole, and kept
  const auto mini_sequence =
      ranges == 0 ? std::nullopt : std::optional(MiniSequence::count(ranges));
  const Mlp mlp(set, kind.projections, kind.activation, 4, 7);
  bench.fill(set);
  const Tensor x = bench.random({6, 4});
  const Tensor cotangent = bench.random({6, 4});
  const Tensor out = bench.empty({6, 4});
  const auto loss = [&] {
    Pass pass = bench.pass({6}, 2, Pass::Keep::kNothing);
    mlp.forward(out, x, pass, mini_sequence);
    return test::dot(out, cotangent);
  };
  loss();

  Pass pass = bench.pass({6});
  const Tensor in_place = bench.empty({6, 4});
  bench.backend().copy(in_place, x);
  mlp.forward(in_place, in_place, pass, mini_sequence);
  CHECK(LayerBench::values(in_place) == LayerBench::values(out));
  const std::size_t kept = kind.projections.output_norm.empty() ? 1 : 3;
  CHECK(pass.slots() == (ranges == 0 ? kept : 0));

  bench.backend().copy(in_place, x);
  mlp.backward(in_place, cotangent, in_place, pass, mini_sequence);
  CHECK(pass.slots() == 0);
  test::check_gradient("x", x, LayerBench::values(in_place), loss);
  test::check_parameter_gradients(set, loss);
}

/// Relative error of the weight gradients in bfloat16 against float64, in `ranges` ranges.
double bfloat16_error(const Kind& kind, Index ranges) {
  constexpr Index kTokens = 1024;
  LayerBench bench;
  backend::Backend& backend = bench.backend();
  ParameterSet wide;
  ParameterSet narrow;
  const Mlp exact(wide, kind.projections, kind.activation, 24, 40);
  const Mlp ranged(narrow, kind.projections, kind.activation, 24, 40);
  bench.fill(wide);
  narrow.allocate(backend, base::DType::kBFloat16);
  backend.copy(narrow.weights(), wide.weights());
  backend.copy(wide.weights(), narrow.weights());
  const auto random = [&](std::uint64_t stream) {
    const Tensor tensor =
        backend.allocate({kTokens, 24}, base::DType::kBFloat16, backend::MemoryTag::kWorkspace);
    backend.random_normal(tensor, {7, base::Purpose::kTest, 0, stream}, 1.0, 0);
    return tensor;
  };
  const auto widen = [&](const Tensor& tensor) {
    const Tensor copy = bench.empty(tensor.shape());
    backend.copy(copy, tensor);
    return copy;
  };
  const Tensor x = random(1);
  const Tensor dy = random(2);
  const Tensor out = random(3);
  {
    Pass pass = bench.pass({kTokens});
    const Tensor result = bench.empty({kTokens, 24});
    exact.forward(result, widen(x), pass);
    exact.backward(result, widen(dy), widen(x), pass);
  }
  Pass pass(backend, base::DType::kBFloat16, {0, kTokens}, bench.ids({0}));
  ranged.forward(out, x, pass, MiniSequence::count(ranges));
  ranged.backward(out, dy, x, pass, MiniSequence::count(ranges));
  return longspan::test::relative_distance(LayerBench::values(widen(narrow.gradients())),
                                           LayerBench::values(wide.gradients()));
}

TEST_CASE("mlp: the error of bfloat16 weight gradients does not grow with the ranges") {
  if (!LayerBench().backend().supports(base::DType::kBFloat16, nullptr)) {
    WARN("this processor has no bfloat16");
    return;
  }
  const Kind kind = GENERATE(from_range(all_kinds()));
  const double whole = bfloat16_error(kind, 1);
  const double ranged = bfloat16_error(kind, 128);
  INFO("relative error " << whole << " in one range, " << ranged << " in 128");
  CHECK(whole < 0.02);
  CHECK(ranged <= 1.01 * whole);
}

TEST_CASE("mlp: ranges bound its memory in both directions, and it keeps nothing") {
  LayerBench bench;
  ParameterSet set;
  const Kind kind = GENERATE(from_range(all_kinds()));
  const bool is_normed = !kind.projections.output_norm.empty();  // output and its gradient
  const std::size_t width =
      (kind.activation == Activation::kGeluTanh ? 2 * 40 : 3 * 40) + (is_normed ? 2 * 8 : 0);
  const std::size_t budget = width * sizeof(double) * 16;  // 16 tokens
  const std::size_t statistics = is_normed ? sizeof(double) * 16 : 0;
  const Mlp mlp(set, kind.projections, kind.activation, 8, 40);
  bench.fill(set);
  const backend::Ledger& ledger = bench.backend().ledger();
  for (const std::int32_t tokens : {16, 160, 1600}) {
    const Tensor x = bench.random({tokens, 8});
    const Tensor out = bench.empty({tokens, 8});
    Pass pass = bench.pass({tokens});
    const std::size_t before = ledger.live_total();
    bench.backend().reset_peaks();
    mlp.forward(out, x, pass, MiniSequence::budget(budget));
    CHECK(ledger.live_total() == before);
    mlp.backward(out, out, x, pass, MiniSequence::budget(budget));
    CHECK(ledger.peak_total() == before + budget + statistics);
  }
}

}  // namespace
}  // namespace longspan::nn
