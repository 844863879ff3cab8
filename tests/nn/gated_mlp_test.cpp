#include "longspan/nn/gated_mlp.h"

#include <catch2/catch.hpp>

#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Tensor;
using test::LayerBench;

TEST_CASE("gated_mlp: its backward matches finite differences, in place too") {
  LayerBench bench;
  ParameterSet set;
  const GatedMlp mlp(set, "mlp.", 4, 7);
  bench.fill(set);
  CHECK(set.at(0).name == "mlp.gate_proj.weight");
  CHECK(set.at(1).name == "mlp.up_proj.weight");
  CHECK(set.at(2).name == "mlp.down_proj.weight");
  const Tensor x = bench.random({6, 4});
  const Tensor cotangent = bench.random({6, 4});
  const Tensor out = bench.empty({6, 4});
  const auto loss = [&] {
    Pass pass = bench.pass({6}, 2, Pass::Keep::kNothing);
    mlp.forward(out, x, pass);
    return test::dot(out, cotangent);
  };
  loss();

  Pass pass = bench.pass({6});
  const Tensor in_place = bench.empty({6, 4});
  bench.backend().copy(in_place, x);
  mlp.forward(in_place, in_place, pass);
  CHECK(LayerBench::values(in_place) == LayerBench::values(out));
  CHECK(pass.slots() == 1);

  bench.backend().copy(in_place, x);
  mlp.backward(in_place, cotangent, in_place, pass);
  CHECK(pass.slots() == 0);
  test::check_gradient("x", x, LayerBench::values(in_place), loss);
  test::check_parameter_gradients(set, loss);
}

}  // namespace
}  // namespace longspan::nn
