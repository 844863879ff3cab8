#include "longspan/nn/linear.h"

#include <catch2/catch.hpp>

#include "longspan/base/error.h"
#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Tensor;
using test::LayerBench;

TEST_CASE("linear: parts lie side by side, and its backward matches finite differences") {
  LayerBench bench;
  ParameterSet set;
  const bool has_bias = GENERATE(false, true);
  const Linear linear(set, {{"q", 4}, {"k", 2}}, 3, {.has_bias = has_bias});
  bench.fill(set);
  Pass pass = bench.pass({5});
  const Tensor x = bench.random({5, 3});
  const Tensor cotangent = bench.random({5, 6});
  const Tensor out = bench.empty({5, 6});
  const auto loss = [&] {
    linear.forward(out, x, pass);
    return test::dot(out, cotangent);
  };

  loss();
  double expected = has_bias ? set.weight(3).data<double>()[1] : 0.0;  // token 1, row 1 of k
  for (int i = 0; i < 3; ++i) {
    expected += x.data<double>()[3 + i] * set.weight(1).data<double>()[3 + i];
  }
  CHECK(out.data<double>()[1 * 6 + 5] == Approx(expected).epsilon(1e-12));

  const Tensor dx = bench.empty({5, 3});
  linear.backward(dx, cotangent, x, pass);
  test::check_gradient("x", x, LayerBench::values(dx), loss);
  test::check_parameter_gradients(set, loss);
  CHECK(pass.slots() == 0);
}

TEST_CASE("linear: stored inputs first it is the same layer, transposed") {
  LayerBench bench;
  ParameterSet set;
  const Linear linear(set, {{"c_attn", 4}}, 3, {.has_bias = true, .inputs_first = true});
  bench.fill(set);
  CHECK(set.at(0).name == "c_attn.weight");
  CHECK(set.at(0).shape == backend::Shape{3, 4});
  CHECK(set.at(1).name == "c_attn.bias");
  CHECK(set.at(1).shape == backend::Shape{4});
  Pass pass = bench.pass({5});
  const Tensor x = bench.random({5, 3});
  const Tensor cotangent = bench.random({5, 4});
  const Tensor out = bench.empty({5, 4});
  const auto loss = [&] {
    linear.forward(out, x, pass);
    return test::dot(out, cotangent);
  };
  loss();
  double expected = set.weight(1).data<double>()[2];  // token 4, output 2
  for (int i = 0; i < 3; ++i) {
    expected += x.data<double>()[4 * 3 + i] * set.weight(0).data<double>()[i * 4 + 2];
  }
  CHECK(out.data<double>()[4 * 4 + 2] == Approx(expected).epsilon(1e-12));

  const Tensor dx = bench.empty({5, 3});
  linear.backward(dx, cotangent, x, pass);
  test::check_gradient("x", x, LayerBench::values(dx), loss);
  test::check_parameter_gradients(set, loss);
  CHECK_THROWS_AS(Linear(set, {{"q", 4}, {"k", 4}}, 3, {.inputs_first = true}),
                  base::InternalError);
}

TEST_CASE("linear: parameter gradients add up; dx may replace x") {
  LayerBench bench;
  ParameterSet set;
  const LinearOptions options{.has_bias = GENERATE(false, true),
                              .inputs_first = GENERATE(false, true)};
  const Linear linear(set, {{"w", 4}}, 3, options);
  bench.fill(set);
  Pass pass = bench.pass({5});
  const Tensor x = bench.random({5, 3});
  const Tensor dy = bench.random({5, 4});
  const Tensor dx = bench.empty({5, 3});
  linear.backward(dx, dy, x, pass);
  const std::vector<double> once = LayerBench::values(set.gradients());
  linear.backward(x, dy, x, pass);
  const std::vector<double> twice = LayerBench::values(set.gradients());
  for (std::size_t i = 0; i < once.size(); ++i) CHECK(twice[i] == Approx(2.0 * once[i]));
  CHECK(LayerBench::values(x) == LayerBench::values(dx));
}

}  // namespace
}  // namespace longspan::nn
