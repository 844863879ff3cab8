#include "longspan/nn/modulation.h"

#include <catch2/catch.hpp>

#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Index;
using backend::Tensor;
using test::LayerBench;

/// x + gate * norm(x), modulated, of three clips, one of which has no rows here.
struct Bench : LayerBench {
  explicit Bench(int which) : half(which), modulation(set, "modulation", kHidden, 1e-2) {
    fill(set);
  }

  void forward(Pass& pass) {
    const Modulation::Vectors vectors = modulation.of(condition, rows, pass);
    modulation.norm(normed, statistics, x, vectors, half, pass);
    modulation.add(out, x, normed, vectors, half, pass);
  }

  static constexpr Index kHidden = 6;
  int half;
  ParameterSet set;
  Modulation modulation;
  ClipRows rows{{0, 3}, {3, 3}, {3, 7}};
  Tensor x = random({7, kHidden});
  Tensor condition = random({3, Modulation::kVectors* kHidden});
  Tensor normed = empty({7, kHidden});
  Tensor statistics = empty({2, 7});
  Tensor out = empty({7, kHidden});
};

TEST_CASE("modulation: its backward matches finite differences, clip by clip") {
  Bench bench(GENERATE(0, 1));
  Pass pass = bench.pass({7});
  const Tensor cotangent = bench.random(bench.x.shape());
  const auto loss = [&] {
    bench.forward(pass);
    return test::dot(bench.out, cotangent);
  };
  loss();
  const Modulation::Vectors vectors = bench.modulation.of(bench.condition, bench.rows, pass);
  const Tensor d = bench.empty(bench.x.shape());
  const Tensor dcondition = bench.empty(bench.condition.shape());
  bench.backend().zero(dcondition);
  bench.modulation.add_backward(d, cotangent, bench.normed, vectors, bench.half, pass);
  bench.modulation.norm_backward(d, d, cotangent, bench.statistics, bench.x, vectors, bench.half,
                                 pass);
  bench.modulation.backward(dcondition, vectors, pass);
  test::check_gradient("x", bench.x, LayerBench::values(d), loss);
  test::check_gradient("condition", bench.condition, LayerBench::values(dcondition), loss);
  test::check_parameter_gradients(bench.set, loss);
}

TEST_CASE("modulation: without a condition and a table it is a layer norm that adds nothing") {
  Bench bench(GENERATE(0, 1));
  bench.backend().zero(bench.set.weights());
  bench.backend().zero(bench.condition);
  Pass pass = bench.pass({7});
  bench.forward(pass);
  CHECK(LayerBench::values(bench.out) == LayerBench::values(bench.x));
  const std::vector<double> normed = LayerBench::values(bench.normed);
  for (std::size_t row = 0; row < 7; ++row) {
    double mean = 0;
    for (std::size_t i = 0; i < 6; ++i) mean += normed[row * 6 + i] / 6;
    CHECK(mean == Approx(0).margin(1e-12));
  }
}

}  // namespace
}  // namespace longspan::nn
