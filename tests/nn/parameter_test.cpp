#include "longspan/nn/parameter.h"

#include <catch2/catch.hpp>

#include "longspan/base/error.h"
#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using test::LayerBench;

TEST_CASE("parameters lie in one flat axis, aligned unless joined") {
  const LayerBench bench;
  ParameterSet set;
  set.declare("a", {3, 5}, ParameterKind::kMatrix);
  const int q = set.declare("q", {2, 5}, ParameterKind::kMatrix);
  set.declare("k", {4, 5}, ParameterKind::kMatrix, /*join=*/true);
  const int norm = set.declare("norm", {5}, ParameterKind::kNorm);
  CHECK(set.at(0).offset == 0);
  CHECK(set.at(q).offset == 64);
  CHECK(set.at(q + 1).offset == 64 + 10);
  CHECK(set.at(norm).offset == 128);
  CHECK(set.elements() == 133);

  set.allocate(bench.backend(), base::DType::kBFloat16);
  CHECK(set.weights().dtype() == base::DType::kBFloat16);
  CHECK(set.gradients().dtype() == base::DType::kFloat32);
  CHECK(bench.backend().sum(set.weights()) == 0.0);
  CHECK(bench.backend().sum(set.gradients()) == 0.0);
  const backend::Tensor joined = set.joined_weight(q, 2);
  CHECK(joined.shape() == backend::Shape{6, 5});
  CHECK(joined.raw() == set.weight(q).raw());
  CHECK(set.joined_gradient(q, 2).rows(2, 6).raw() == set.gradient(q + 1).raw());
}

TEST_CASE("what does not lie together is not joined, and a set is closed when allocated") {
  const LayerBench bench;
  ParameterSet set;
  set.declare("a", {3, 5}, ParameterKind::kMatrix);
  set.declare("b", {3, 5}, ParameterKind::kMatrix);
  set.declare("c", {2, 4}, ParameterKind::kMatrix, /*join=*/true);
  set.allocate(bench.backend(), base::DType::kFloat32);
  CHECK_THROWS_AS(set.joined_weight(0, 2), base::InternalError);
  CHECK_THROWS_AS(set.joined_weight(1, 2), base::InternalError);
  CHECK_THROWS_AS(set.declare("d", {2}, ParameterKind::kNorm), base::InternalError);
}

TEST_CASE("first values depend on seed, parameter and element alone; gaps stay zero") {
  const LayerBench bench;
  // The second set has other sizes before and behind parameter 1: offsets differ, values must not.
  ParameterSet small;
  small.declare("embed", {4, 8}, ParameterKind::kEmbedding);
  small.declare("w", {40, 50}, ParameterKind::kMatrix);
  small.declare("norm", {8}, ParameterKind::kNorm);
  ParameterSet large;
  large.declare("embed", {400, 8}, ParameterKind::kEmbedding);
  large.declare("w", {50, 50}, ParameterKind::kMatrix);
  for (ParameterSet* set : {&small, &large}) {
    set->allocate(bench.backend(), base::DType::kFloat64);
    set->initialise(11, 0.02);
  }
  const std::vector<double> w = LayerBench::values(small.weight(1));
  const std::vector<double> w_large = LayerBench::values(large.weight(1));
  CHECK(std::equal(w.begin(), w.end(), w_large.begin()));
  const base::RandomStream stream(11, base::Purpose::kInitialWeight, 0, 1);
  CHECK(w[1234] == Approx(0.02 * stream.normal(1234)).epsilon(1e-12));
  CHECK(LayerBench::values(small.weight(2)) == std::vector<double>(8, 1.0));
  double in_parameters = 0.0;
  for (int i = 0; i < 3; ++i) in_parameters += bench.backend().sum(small.weight(i));
  CHECK(bench.backend().sum(small.weights()) == Approx(in_parameters).epsilon(1e-12));

  small.initialise(12, 0.02);
  CHECK(LayerBench::values(small.weight(1)) != w);
}

TEST_CASE("a pass pops what was pushed last, and keeps nothing when told so") {
  LayerBench bench;
  Pass pass = bench.pass({2, 3});
  CHECK(pass.tokens() == 5);
  const backend::Tensor first = bench.random({2});
  pass.push(first);
  pass.push(bench.random({3}));
  CHECK(pass.pop().size(0) == 3);
  CHECK(pass.pop().raw() == first.raw());
  CHECK_THROWS_AS(pass.pop(), base::InternalError);

  Pass forgetful = bench.pass({2}, 2, Pass::Keep::kNothing);
  forgetful.push(first);
  CHECK(forgetful.slots() == 0);
  const std::size_t before = bench.backend().ledger().live(backend::MemoryTag::kSaved);
  const backend::Tensor workspace = forgetful.saved({1000});
  CHECK(bench.backend().ledger().live(backend::MemoryTag::kSaved) == before);
  const backend::Tensor saved = pass.saved({1000});
  CHECK(bench.backend().ledger().live(backend::MemoryTag::kSaved) >= before + 8000);
}

TEST_CASE("gradients start at 0, whether something is added or not") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 24U);
  ParameterSet parameters;
  const int matrix = parameters.declare("matrix", {4, 4}, ParameterKind::kMatrix);
  const int norm = parameters.declare("norm", {4}, ParameterKind::kNorm);
  const int unused = parameters.declare("unused", {4, 4}, ParameterKind::kMatrix);
  parameters.allocate(*backend, base::DType::kFloat32);
  CHECK_FALSE(parameters.claim_gradient(matrix, 1));  // allocated as 0: layers add
  backend->fill(parameters.gradients(), 9.0);
  parameters.start_gradients();
  CHECK(backend->sum(parameters.gradient(norm)) == 0.0);
  CHECK_FALSE(parameters.claim_gradient(norm, 1));
  CHECK(parameters.claim_gradient(matrix, 1));
  backend->fill(parameters.gradient(matrix), 2.0);
  CHECK_FALSE(parameters.claim_gradient(matrix, 1));
  parameters.settle_gradients();
  CHECK(backend->sum(parameters.gradient(matrix)) == 32.0);
  CHECK(backend->sum(parameters.gradient(unused)) == 0.0);
}

}  // namespace
}  // namespace longspan::nn
