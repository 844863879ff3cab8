#include "longspan/nn/embedding.h"

#include <catch2/catch.hpp>

#include "longspan/nn/learned_positions.h"
#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Tensor;
using test::LayerBench;

TEST_CASE("embedding: its backward matches finite differences with repeated ids") {
  LayerBench bench;
  ParameterSet set;
  const double scale = GENERATE(1.0, 2.5);
  const Embedding embedding(set, "embed", 5, 3, scale);
  bench.fill(set);
  CHECK(set.at(embedding.parameter()).kind == ParameterKind::kEmbedding);
  CHECK(set.at(embedding.parameter()).name == "embed.weight");
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
  for (int i = 0; i < 3; ++i) CHECK(out.data<double>()[12 + i] == scale * row.data<double>()[i]);
  const Tensor dy = bench.empty({6, 3});  // is overwritten where rows are scaled
  bench.backend().copy(dy, cotangent);
  embedding.backward(dy, ids, pass);
  test::check_parameter_gradients(set, loss);
}

TEST_CASE("learned positions: added by the position within each document, and back") {
  LayerBench bench;
  ParameterSet set;
  const LearnedPositions positions(set, "wpe", 4, 3);
  bench.fill(set);
  CHECK(set.at(0).name == "wpe.weight");
  CHECK(set.at(0).shape == backend::Shape{4, 3});
  Pass pass = bench.pass({4, 0, 2});
  const Tensor x = bench.random({6, 3});
  const Tensor cotangent = bench.random({6, 3});
  const Tensor out = bench.empty({6, 3});
  const auto loss = [&] {
    bench.backend().copy(out, x);
    positions.forward(out, pass);
    return test::dot(out, cotangent);
  };
  loss();
  // The second document's second token.
  CHECK(out.data<double>()[5 * 3] == x.data<double>()[5 * 3] + set.weight(0).data<double>()[3]);
  positions.backward(cotangent, pass);
  test::check_parameter_gradients(set, loss);
}

}  // namespace
}  // namespace longspan::nn
