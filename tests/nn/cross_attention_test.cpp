#include "longspan/nn/cross_attention.h"

#include <catch2/catch.hpp>

#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Index;
using backend::Tensor;
using test::LayerBench;

TEST_CASE("cross-attention: its backward matches finite differences, document by document") {
  LayerBench bench;
  ParameterSet set;
  const CrossAttention layer(set, "cross", 8, 2);
  bench.fill(set);
  const Tensor x = bench.random({7, 8});
  // The second document has no tokens here, the third a context of one row.
  const CrossAttention::Context context{bench.random({6, 8}), {0, 3, 3, 7}, {0, 3, 5, 6}};
  const Tensor cotangent = bench.random({7, 8});
  const Tensor out = bench.empty({7, 8});
  const auto loss = [&] {
    Pass pass = bench.pass({7}, 4, Pass::Keep::kNothing);
    layer.forward(out, x, context, /*keeps=*/false, pass);
    return test::dot(out, cotangent);
  };
  Pass pass = bench.pass({7}, 4);
  layer.forward(out, x, context, /*keeps=*/true, pass);
  CHECK(pass.slots() == 4);
  const Tensor dx = bench.empty({7, 8});
  bench.backend().copy(dx, cotangent);
  const Tensor dcontext = bench.empty({6, 8});
  bench.backend().zero(dcontext);
  layer.backward(dx, dcontext, dx, x, context, pass);
  CHECK(pass.slots() == 0);
  test::check_gradient("x", x, LayerBench::values(dx), loss);
  test::check_gradient("context", context.rows, LayerBench::values(dcontext), loss);
  test::check_parameter_gradients(set, loss);
}

TEST_CASE("cross-attention: a document sees nothing of another's context") {
  LayerBench bench;
  ParameterSet set;
  const CrossAttention layer(set, "cross", 8, 2);
  bench.fill(set);
  const Tensor x = bench.random({4, 8});
  const CrossAttention::Context context{bench.random({5, 8}), {0, 1, 4}, {0, 2, 5}};
  const Tensor before = bench.empty({4, 8});
  const Tensor after = bench.empty({4, 8});
  Pass pass = bench.pass({4}, 4, Pass::Keep::kNothing);
  layer.forward(before, x, context, /*keeps=*/false, pass);
  bench.backend().fill(context.rows.rows(2, 5), 0.5);
  layer.forward(after, x, context, /*keeps=*/false, pass);
  const auto first = [](const Tensor& tensor) { return LayerBench::values(tensor.rows(0, 1)); };
  CHECK(first(after) == first(before));
  CHECK(LayerBench::values(after) != LayerBench::values(before));
}

}  // namespace
}  // namespace longspan::nn
