#include "longspan/optim/state_tensor.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/comm/dry.h"
#include "longspan/optim/kinds.h"

using namespace longspan;
using backend::Index;
using base::DType;

namespace {

/// A model of odd sizes, one parameter joined to another, as one of some ranks sees it.
struct Rank {
  Rank(int rank, int ranks, Index cut)
      : backend(backend::make_cpu_backend(std::size_t{1} << 24U)),
        nothing(backend::DeviceProfile::load("cpu"), 1),
        world(rank, ranks, nothing, false) {
    parameters.declare("a", {37, 41}, nn::ParameterKind::kMatrix);
    parameters.declare("b", {11, 41}, nn::ParameterKind::kMatrix, true);
    parameters.declare("c", {700}, nn::ParameterKind::kNorm);
    parameters.begin_unit();
    parameters.declare("d", {3, 300}, nn::ParameterKind::kMatrix);
    parameters.allocate(*backend, DType::kFloat32, {.zero_stage = 3, .ranks = &world, .cut = cut});
  }

  std::unique_ptr<backend::Backend> backend;
  backend::DryBackend nothing;
  comm::DryCommunicator world;
  nn::ParameterSet parameters;
};

bool is_matrix(const nn::Parameter& parameter) {
  return parameter.kind == nn::ParameterKind::kMatrix;
}

}  // namespace

TEST_CASE("the ranks' parts of every state tensor are the whole, each element once") {
  const Index each = GENERATE(1, 256);
  for (const int ranks : {1, 2, 3, 5, 16}) {
    INFO(ranks << " ranks, blocks of " << each);
    std::vector<std::vector<int>> seen;
    for (int rank = 0; rank < ranks; ++rank) {
      const Rank one(rank, ranks, each);
      const optim::OwnState state(one.parameters, *one.backend, DType::kFloat32, each);
      std::vector<optim::StateTensor> tensors;
      state.append_to(tensors, "s.");
      REQUIRE(tensors.size() == 4);
      seen.resize(tensors.size());
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        const optim::StateTensor& tensor = tensors[i];
        const nn::Parameter& parameter = one.parameters.at(static_cast<int>(i));
        CHECK(tensor.name == "s." + parameter.name);
        CHECK(tensor.shape.elements() == (parameter.shape.elements() + each - 1) / each);
        CHECK(tensor.where == one.backend.get());
        const shard::Range part = tensor.part(one.parameters, rank);
        REQUIRE(tensor.held.elements() == part.size());
        seen[i].resize(static_cast<std::size_t>(tensor.shape.elements()));
        for (Index element = part.begin; element < part.end; ++element) {
          ++seen[i][static_cast<std::size_t>(element)];
          CHECK(tensor.held.data<float>()[element - part.begin] == 0.0F);
        }
      }
    }
    for (const std::vector<int>& whole : seen) {
      CHECK(whole == std::vector<int>(whole.size(), 1));
    }
  }
}

TEST_CASE(
    "own states of different parameters do not overlap, and pieces of one follow each other") {
  const Rank one(1, 3, 256);
  const Index each = GENERATE(1, 256);
  const optim::OwnState state(one.parameters, *one.backend, DType::kFloat32, each);
  float value = 0;
  for (const nn::OwnRange& range : one.parameters.own_ranges()) {
    one.backend->fill(state.of(range), ++value);
  }
  value = 0;
  for (const nn::OwnRange& range : one.parameters.own_ranges()) {
    ++value;
    const backend::Tensor all = state.of(range);
    for (Index i = 0; i < all.elements(); ++i) CHECK(all.data<float>()[i] == value);
    if (range.elements.size() <= 256) continue;
    const backend::Tensor head = state.of(range, 0, 256);
    const backend::Tensor tail = state.of(range, 256, range.elements.size());
    CHECK(head.elements() == 256 / each);
    CHECK(tail.data<float>() == all.data<float>() + head.elements());
    CHECK(head.elements() + tail.elements() == all.elements());
  }
}

TEST_CASE("a state concerns those parameters that it is for") {
  const Rank one(0, 1, 1);
  const optim::OwnState state(one.parameters, *one.backend, DType::kUInt8, 1, is_matrix);
  std::vector<optim::StateTensor> tensors;
  state.append_to(tensors, "codes.");
  REQUIRE(tensors.size() == 3);
  CHECK(tensors[2].name == "codes.d");
  CHECK(tensors[2].parameter == 3);
  CHECK(tensors[2].held.dtype() == DType::kUInt8);
  CHECK_THROWS_AS(state.of(one.parameters.own_ranges()[2]), base::InternalError);
}

TEST_CASE("blocks of a state that ranges cut through are refused") {
  const Rank one(1, 3, 1);
  CHECK_THROWS_AS(optim::OwnState(one.parameters, *one.backend, DType::kFloat32, 256),
                  base::InternalError);
}

TEST_CASE("every kind of optimizer is made by its name") {
  const Rank one(0, 1, 1);
  for (const optim::OptimizerKind& kind : optim::optimizer_kinds()) {
    Rank whole(0, 1, kind.cut);
    optim::OptimizerConfig config;
    config.name = kind.name;
    const auto optimizer = optim::make_optimizer(config, whole.parameters, *whole.backend);
    CHECK(optimizer->updates() == 0);
    // What needs no gradients has no means of them.
    CHECK(optimizer->states().empty() != kind.needs_gradients);
  }
  CHECK_THROWS_AS(optim::optimizer_kind("sgd"), base::InternalError);
}
