#include "longspan/nn/norm.h"

#include <catch2/catch.hpp>
#include <memory>

#include "longspan/nn/layer_norm.h"
#include "longspan/nn/rms_norm.h"
#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Index;
using backend::Tensor;
using test::LayerBench;

enum class Kind : std::uint8_t { kRms, kLayer };

/// A norm of either kind with random weights.
struct Bench : LayerBench {
  Bench(Kind kind, Index hidden, double epsilon) {
    if (kind == Kind::kRms) {
      norm = std::make_unique<RmsNorm>(
          set, "norm", hidden, backend::RmsNormOptions{.epsilon = static_cast<float>(epsilon)});
    } else {
      norm = std::make_unique<LayerNorm>(set, "norm", hidden, epsilon);
    }
    fill(set);
  }

  ParameterSet set;
  std::unique_ptr<Norm> norm;
};

TEST_CASE("norm: what each kind declares") {
  const Bench rms(Kind::kRms, 6, 1e-5);
  CHECK(rms.set.parameters().size() == 1);
  CHECK(rms.set.at(0).name == "norm.weight");
  CHECK(rms.set.at(0).kind == ParameterKind::kNorm);
  CHECK(rms.norm->statistics(5) == backend::Shape{5});
  const Bench layer(Kind::kLayer, 6, 1e-5);
  CHECK(layer.set.parameters().size() == 2);
  CHECK(layer.set.at(1).name == "norm.bias");
  CHECK(layer.set.at(1).kind == ParameterKind::kBias);
  CHECK(layer.norm->statistics(5) == backend::Shape{2, 5});
}

TEST_CASE("norm: its backward matches finite differences and adds the residual") {
  Bench bench(GENERATE(Kind::kRms, Kind::kLayer), 6, 1e-2);
  const Norm& norm = *bench.norm;
  Pass pass = bench.pass({5});
  const Tensor x = bench.random({5, 6});
  const Tensor cotangent = bench.random({5, 6});
  const Tensor residual = bench.random({5, 6});
  const Tensor out = bench.empty({5, 6});
  const Tensor statistics = bench.empty(norm.statistics(5));
  // The residual's gradient reaches x as it is: the gradient of x . residual.
  const auto loss = [&] {
    norm.forward(out, statistics, x, pass);
    return test::dot(out, cotangent) + test::dot(x, residual);
  };
  norm.forward(out, statistics, x, pass);
  const Tensor dx = bench.empty({5, 6});
  norm.backward(dx, cotangent, residual, statistics, x, pass);
  test::check_gradient("x", x, LayerBench::values(dx), loss);

  const auto loss_of_weight = [&] {
    norm.forward(out, statistics, x, pass);
    return test::dot(out, cotangent);
  };
  test::check_parameter_gradients(bench.set, loss_of_weight);

  norm.forward(out, statistics, x, pass);
  norm.backward(residual, cotangent, residual, statistics, x, pass);
  CHECK(LayerBench::values(residual) == LayerBench::values(dx));
}

TEST_CASE("norm: again gives the forward's output bit for bit") {
  Bench bench(GENERATE(Kind::kRms, Kind::kLayer), 37, 1e-5);
  Pass pass = bench.pass({11});
  const Tensor x = bench.random({11, 37});
  const Tensor out = bench.empty({11, 37});
  const Tensor once_more = bench.empty({11, 37});
  const Tensor statistics = bench.empty(bench.norm->statistics(11));
  bench.norm->forward(out, statistics, x, pass);
  const std::vector<double> before = LayerBench::values(statistics);
  bench.norm->again(once_more, statistics, x, pass);
  CHECK(LayerBench::values(once_more) == LayerBench::values(out));
  CHECK(LayerBench::values(statistics) == before);
}

TEST_CASE("norm: add_forward is the forward of the sum bit for bit") {
  Bench bench(GENERATE(Kind::kRms, Kind::kLayer), 37, 1e-5);
  Pass pass = bench.pass({11});
  const Tensor a = bench.random({11, 37});
  const Tensor b = bench.random({11, 37});
  const Tensor sum = bench.empty({11, 37});
  const Tensor out = bench.empty({11, 37});
  const Tensor of_sum = bench.empty({11, 37});
  const Tensor statistics = bench.empty(bench.norm->statistics(11));
  const Tensor statistics_of_sum = bench.empty(bench.norm->statistics(11));
  pass.backend().add(sum, a, b);
  bench.norm->forward(out, statistics, sum, pass);
  bench.norm->add_forward(of_sum, statistics_of_sum, a, a, b, pass);
  CHECK(LayerBench::values(a) == LayerBench::values(sum));
  CHECK(LayerBench::values(of_sum) == LayerBench::values(out));
  CHECK(LayerBench::values(statistics_of_sum) == LayerBench::values(statistics));
}

}  // namespace
}  // namespace longspan::nn
