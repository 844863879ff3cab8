#include "longspan/nn/rms_norm.h"

#include <catch2/catch.hpp>

#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Tensor;
using test::LayerBench;

TEST_CASE("rms_norm: its backward matches finite differences and adds the residual") {
  LayerBench bench;
  ParameterSet set;
  const RmsNorm norm(set, "norm", 6, 1e-2);
  bench.fill(set);
  Pass pass = bench.pass({5});
  const Tensor x = bench.random({5, 6});
  const Tensor cotangent = bench.random({5, 6});
  const Tensor residual = bench.random({5, 6});
  const Tensor out = bench.empty({5, 6});
  const Tensor rstd = bench.empty({5});
  // The residual's gradient reaches x as it is: the gradient of x . residual.
  const auto loss = [&] {
    norm.forward(out, rstd, x, pass);
    return test::dot(out, cotangent) + test::dot(x, residual);
  };
  norm.forward(out, rstd, x, pass);
  const Tensor dx = bench.empty({5, 6});
  norm.backward(dx, cotangent, residual, rstd, x, pass);
  test::check_gradient("x", x, LayerBench::values(dx), loss);

  const auto loss_of_weight = [&] {
    norm.forward(out, rstd, x, pass);
    return test::dot(out, cotangent);
  };
  test::check_parameter_gradients(set, loss_of_weight);

  norm.backward(residual, cotangent, residual, rstd, x, pass);
  CHECK(LayerBench::values(residual) == LayerBench::values(dx));
}

TEST_CASE("rms_norm: again gives the forward's output bit for bit") {
  LayerBench bench;
  ParameterSet set;
  const RmsNorm norm(set, "norm", 37, 1e-5);
  bench.fill(set);
  Pass pass = bench.pass({11});
  const Tensor x = bench.random({11, 37});
  const Tensor out = bench.empty({11, 37});
  const Tensor once_more = bench.empty({11, 37});
  const Tensor rstd = bench.empty({11});
  norm.forward(out, rstd, x, pass);
  norm.again(once_more, rstd, x, pass);
  CHECK(LayerBench::values(once_more) == LayerBench::values(out));
}

TEST_CASE("rms_norm: add_forward is the forward of the sum bit for bit") {
  LayerBench bench;
  ParameterSet set;
  const RmsNorm norm(set, "norm", 37, 1e-5);
  bench.fill(set);
  Pass pass = bench.pass({11});
  const Tensor a = bench.random({11, 37});
  const Tensor b = bench.random({11, 37});
  const Tensor sum = bench.empty({11, 37});
  const Tensor out = bench.empty({11, 37});
  const Tensor of_sum = bench.empty({11, 37});
  const Tensor rstd = bench.empty({11});
  pass.backend().add(sum, a, b);
  norm.forward(out, rstd, sum, pass);
  norm.add_forward(of_sum, rstd, a, a, b, pass);
  CHECK(LayerBench::values(a) == LayerBench::values(sum));
  CHECK(LayerBench::values(of_sum) == LayerBench::values(out));
}

}  // namespace
}  // namespace longspan::nn
