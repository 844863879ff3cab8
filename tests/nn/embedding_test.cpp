#include "longspan/nn/embedding.h"

#include <catch2/catch.hpp>

#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Tensor;
using test::LayerBench;

TEST_CASE("embedding: its backward matches finite differences with repeated ids") {
  LayerBench bench;
  ParameterSet set;
  const Embedding embedding(set, "embed", 5, 3);
  bench.fill(set);
  CHECK(set.at(embedding.parameter()).kind == ParameterKind::kEmbedding);
  Pass pass = bench.pass({6});
  const Tensor ids = bench.ids({4, 1, 1, 0, 4, 1});
  const Tensor cotangent = bench.random({6, 3});
  const Tensor out = bench.empty({6, 3});
  const auto loss = [&] {
    embedding.forward(out, ids, pass);
    return test::dot(out, cotangent);
  };
  loss();
  const Tensor row = set.weight(0).rows(4, 5);
  CHECK(LayerBench::values(out.rows(4, 5)) == LayerBench::values(row));
  embedding.backward(cotangent, ids, pass);
  test::check_parameter_gradients(set, loss);
}

}  // namespace
}  // namespace longspan::nn
