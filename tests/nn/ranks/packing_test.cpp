// Packed matrices: the same bits on every rank and at every stage, and what the operations give.
#include <catch2/catch.hpp>

#include "longspan/base/error.h"
#include "longspan/nn/parameter.h"
#include "tests/backend/nf4_fixture.h"
#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Index;
using backend::Tensor;
using backend::testing::Array;
using backend::testing::Nf4;
using base::DType;
using test::LayerBench;

comm::Communicator& world() {
  static const auto kWorld = comm::make_world_communicator();
  return *kWorld;
}

/// Units that are plain and packed, of sizes that no block divides; a matrix of several pieces.
void declare(ParameterSet& set, bool packs) {
  const auto matrix = [&](const char* name, const backend::Shape& shape, bool join) {
    const int number = set.declare(name, shape, ParameterKind::kMatrix, join);
    if (packs) set.pack(number);
  };
  set.declare("embedding", {7, 9}, ParameterKind::kEmbedding);
  set.begin_unit();
  set.declare("norm", {3}, ParameterKind::kNorm);
  matrix("q", {250, 300}, false);
  matrix("k", {7, 300}, true);
  set.declare("bias", {5}, ParameterKind::kBias);
  set.declare("plain", {10, 7}, ParameterKind::kMatrix);
  matrix("down", {64, 256}, false);
  set.begin_unit();
  matrix("up", {3, 5}, false);
  set.begin_unit();
  set.declare("last", {11}, ParameterKind::kNorm);
}

constexpr int kUnits = 4;

struct Set {
  Set(DType dtype, bool packs, const Placement& placement) {
    declare(parameters, packs);
    parameters.allocate(bench.backend(), dtype, placement);
    parameters.initialise(7, 0.02);
    parameters.settle_packed();
  }

  /// Of all parameters, unit by unit, as the trainer opens them.
  std::vector<Array> weights() {
    std::vector<Array> all;
    for (int unit = 0; unit < kUnits; ++unit) {
      parameters.open(unit, Use::kWeights, unit + 1 < kUnits ? unit + 1 : ParameterSet::kNoUnit);
      for (int number = 0; number < static_cast<int>(parameters.parameters().size()); ++number) {
        if (parameters.at(number).unit != unit) continue;
        const Tensor weight =
            parameters.weight(number).reshape({parameters.at(number).shape.elements()});
        all.emplace_back(weight.dtype(), weight.shape());
        bench.backend().copy(all.back(), weight);
      }
      parameters.close(unit);
    }
    return all;
  }

  LayerBench bench;
  ParameterSet parameters;
};

DType every_dtype() { return GENERATE(DType::kFloat32, DType::kBFloat16, DType::kFloat64); }

TEST_CASE("packed matrices are what the operations give of whole ones, others as they are") {
  const DType dtype = every_dtype();
  const std::vector<Array> plain = Set(dtype, false, {.trains = false}).weights();
  Set packed(dtype, true, {.trains = false});
  const std::vector<Array> found = packed.weights();
  REQUIRE(found.size() == plain.size());
  for (std::size_t number = 0; number < plain.size(); ++number) {
    const Parameter& parameter = packed.parameters.at(static_cast<int>(number));
    INFO(parameter.name);
    if (!parameter.is_packed) {
      CHECK(found[number].same_bits(plain[number]));
      continue;
    }
    Nf4 nf4(plain[number].elements());
    nf4.quantize(backend::testing::processor(), plain[number]);
    Array expected(dtype, {plain[number].elements()});
    nf4.dequantize(backend::testing::processor(), expected);
    CHECK(found[number].same_bits(expected));
  }
}

TEST_CASE("packed matrices have the same bits at every stage of all ranks") {
  const DType dtype = every_dtype();
  const std::vector<Array> expected = Set(dtype, true, {.trains = false}).weights();
  for (const int stage : {0, 2, 3}) {
    INFO("stage " << stage);
    Set shared(dtype, true, {.zero_stage = stage, .ranks = &world(), .trains = false});
    for (int pass = 0; pass < 2; ++pass) {
      const std::vector<Array> found = shared.weights();
      for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i].same_bits(expected[i]));
    }
  }
}

TEST_CASE("packed matrices are those written last, settled or not before") {
  const std::vector<Array> expected = Set(DType::kFloat32, true, {.trains = false}).weights();
  for (const bool settles : {false, true}) {
    Set again(DType::kFloat32, true, {.zero_stage = 3, .ranks = &world(), .trains = false});
    again.parameters.initialise(8, 0.5);  // larger ones, of which no mean may stay
    if (settles) again.parameters.settle_packed();
    again.parameters.initialise(7, 0.02);
    again.parameters.settle_packed();
    const std::vector<Array> found = again.weights();
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i].same_bits(expected[i]));
  }
}

TEST_CASE("packed matrices take 4.13 bits an element, on a rank's own share") {
  for (const int stage : {0, 3}) {
    const Set set(DType::kBFloat16, true,
                  {.zero_stage = stage, .ranks = &world(), .trains = false});
    const auto share = static_cast<double>(stage == 3 ? world().size() : 1);
    const double packed = 250 * 300 + 7 * 300 + 64 * 256 + 15;
    const double plain = 7 * 9 + 3 + 5 + 70 + 11;
    const auto bytes = static_cast<double>(set.parameters.weights().bytes());
    // A piece of a matrix is whole scales; what is short of one, and gaps, come on top.
    const double slack = 2 * 8456 + 1024;
    CHECK(bytes <= (packed * 4.129 / 8 + 2 * plain) / share + slack);
    if (stage == 0) CHECK(bytes >= packed * 4.128 / 8 + 2 * plain);
  }
}

TEST_CASE("packed sets: what cannot be done is refused") {
  LayerBench bench;
  ParameterSet set;
  const int vector = set.declare("norm", {5}, ParameterKind::kNorm);
  CHECK_THROWS_AS(set.pack(vector), base::InternalError);
  const int matrix = set.declare("w", {4, 5}, ParameterKind::kMatrix);
  set.pack(matrix);
  ParameterSet trained;
  trained.pack(trained.declare("w", {4, 5}, ParameterKind::kMatrix));
  CHECK_THROWS_AS(trained.allocate(bench.backend(), DType::kFloat32), base::InternalError);
  set.allocate(bench.backend(), DType::kFloat32, {.trains = false});
  CHECK_THROWS_AS(set.pack(matrix), base::InternalError);
  set.initialise(1, 0.1);
  CHECK_THROWS_AS(set.open(0, Use::kWeights), base::InternalError);  // not settled
  CHECK_THROWS_AS(set.own_weight(set.own_ranges()[0]), base::InternalError);
}

}  // namespace
}  // namespace longspan::nn
