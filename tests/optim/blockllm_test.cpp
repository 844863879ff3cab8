#include "longspan/optim/blockllm.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <vector>

#include "longspan/comm/dry.h"
#include "longspan/optim/adamw.h"

using namespace longspan;
using backend::Index;
using backend::Tensor;
using base::DType;

namespace {

constexpr int kParameters = 4;

/// Four parameters of which some join, some begin at odd places, and gradients by step and number.
struct Fixture {
  explicit Fixture(DType dtype) : backend(backend::make_cpu_backend(std::size_t{1} << 24U)) {
    parameters.declare("embedding", {31, 7}, nn::ParameterKind::kEmbedding);
    parameters.declare("query", {13, 21}, nn::ParameterKind::kMatrix);
    parameters.declare("key", {9, 21}, nn::ParameterKind::kMatrix, true);
    parameters.declare("norm", {21}, nn::ParameterKind::kNorm);
    parameters.allocate(*backend, dtype);
    parameters.initialise(3, 0.5);
  }

  void make_gradients(int step) {
    for (int number = 0; number < kParameters; ++number) {
      const base::RandomStream stream(8, base::Purpose::kTest, static_cast<std::uint64_t>(step),
                                      static_cast<std::uint64_t>(number));
      backend->random_normal(parameters.gradient(number), stream, 0.3, 0);
    }
  }

  std::unique_ptr<backend::Backend> backend;
  nn::ParameterSet parameters;
};

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

/// A step of an optimizer that chooses by these squares wherever it chooses.
void step(optim::Optimizer& optimizer, const std::vector<double>& squares) {
  if (optimizer.observe(1.0)) optimizer.choose(squares);
  optimizer.step(0.01, 0.7);
}

const optim::StateTensor& named(const std::vector<optim::StateTensor>& states,
                                const std::string& name) {
  for (const optim::StateTensor& state : states) {
    if (state.name == name) return state;
  }
  FAIL("there is no " << name);
  return states.front();
}

}  // namespace

TEST_CASE("with all parameters active BlockLLM is AdamW bit for bit, whatever it chooses") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16, DType::kFloat64);
  Fixture plain(dtype);
  Fixture blocks(dtype);
  optim::AdamW adamw({}, plain.parameters, *plain.backend);
  optim::BlockLlm blockllm({}, {.active = 1.0, .interval = 2}, blocks.parameters, *blocks.backend);
  for (int number = 0; number < 7; ++number) {
    plain.make_gradients(number);
    blocks.make_gradients(number);
    adamw.step(0.01, 0.7);
    step(blockllm, {1.0 + number % 3, 2.0, 3.0 - number % 2, 0.5});
    CHECK(same_bytes(blocks.parameters.weights(), plain.parameters.weights()));
  }
  const auto expected = adamw.states();
  const auto found = blockllm.states();
  REQUIRE(found.size() == expected.size() + 2);
  for (const auto& state : expected) {
    INFO(state.name);
    CHECK(same_bytes(named(found, state.name).held, state.held));
  }
}

TEST_CASE("what is chosen is updated as by an AdamW that begins there, and the others not at all") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16, DType::kFloat64);
  // Of 700 elements 490: 217 + 273, 273 + 189 + 21, 189 + 217 + 21. In each, one stays.
  const std::vector<std::vector<double>> squares = {
      {9.0, 8.0, 0.0, 0.0}, {0.0, 8.0, 90.0, 0.0}, {900.0, 0.0, 900.0, 0.0}};
  const std::vector<std::vector<int>> chosen = {{0, 1}, {1, 2, 3}, {0, 2, 3}};
  Fixture blocks(dtype);
  optim::BlockLlm blockllm({}, {.active = 0.7, .interval = 3}, blocks.parameters, *blocks.backend);
  // An AdamW for each parameter, begun anew when it is chosen; its weights are the parameter's.
  std::vector<std::unique_ptr<Fixture>> fixtures(kParameters);
  std::vector<std::unique_ptr<optim::AdamW>> references(kParameters);
  for (int number = 0; number < 9; ++number) {
    const auto round = static_cast<std::size_t>(number / 3);
    const Tensor before = blocks.backend->allocate(blocks.parameters.weights().shape(), dtype, {});
    blocks.backend->copy(before, blocks.parameters.weights());
    const auto masters = blockllm.master();
    blocks.make_gradients(number);
    for (int one = 0; one < kParameters; ++one) {
      const auto at = static_cast<std::size_t>(one);
      const bool is_chosen = std::count(chosen[round].begin(), chosen[round].end(), one) > 0;
      if (!is_chosen) references[at].reset();
      if (!is_chosen || references[at]) continue;
      fixtures[at] = std::make_unique<Fixture>(dtype);
      fixtures[at]->backend->copy(fixtures[at]->parameters.weights(), before);
      references[at] = std::make_unique<optim::AdamW>(optim::AdamConfig{}, fixtures[at]->parameters,
                                                      *fixtures[at]->backend);
      for (std::size_t i = 0; i < masters.size(); ++i) {
        fixtures[at]->backend->copy(references[at]->master()[i].held, masters[i].held);
      }
    }
    step(blockllm, squares[round]);
    for (int one = 0; one < kParameters; ++one) {
      INFO("step " << number << ", " << blocks.parameters.at(one).name);
      const auto at = static_cast<std::size_t>(one);
      const Tensor found = blocks.parameters.weight(one);
      const Index first = blocks.parameters.at(one).offset;
      const Tensor old = before.rows(first, first + found.elements());
      if (!references[at]) {
        CHECK(same_bytes(found, old));
        continue;
      }
      fixtures[at]->make_gradients(number);
      references[at]->step(0.01, 0.7);
      CHECK(same_bytes(found, fixtures[at]->parameters.weight(one)));
      CHECK_FALSE(same_bytes(found, old));
      for (const char* const moment : {"moment1.", "moment2."}) {
        const std::string name = moment + blocks.parameters.at(one).name;
        CHECK(same_bytes(named(blockllm.states(), name).held,
                         named(references[at]->states(), name).held));
      }
    }
  }
}

TEST_CASE("every parameter can be chosen: embedding, matrix and norm") {
  for (int largest = 0; largest < kParameters; ++largest) {
    Fixture blocks(DType::kFloat32);
    optim::BlockLlm blockllm({}, {.active = 1e-6}, blocks.parameters, *blocks.backend);
    std::vector<double> squares(kParameters, 1.0);
    squares[static_cast<std::size_t>(largest)] = 2.0;
    blocks.make_gradients(0);
    step(blockllm, squares);
    const auto states = blockllm.states();
    REQUIRE(states.size() == 4);
    CHECK(states[2].name == "moment1." + blocks.parameters.at(largest).name);
    CHECK(states[3].name == "moment2." + blocks.parameters.at(largest).name);
  }
}

TEST_CASE("moments take memory of one size, by what is active and what a rank has") {
  const auto bytes_of = [](double active, int ranks) {
    Fixture blocks(DType::kFloat32);
    backend::DryBackend nothing(backend::DeviceProfile::load("cpu"), 1);
    comm::DryCommunicator world(0, ranks, nothing);
    nn::ParameterSet parameters;
    parameters.declare("a", {40, 50}, nn::ParameterKind::kMatrix);
    parameters.declare("b", {40, 50}, nn::ParameterKind::kMatrix);
    parameters.allocate(*blocks.backend, DType::kFloat32, {.zero_stage = 1, .ranks = &world});
    const backend::Ledger& ledger = blocks.backend->ledger();
    const std::size_t before = ledger.live(backend::MemoryTag::kOptimizer);
    optim::BlockLlm blockllm({}, {.active = active, .interval = 1}, parameters, *blocks.backend);
    const std::size_t taken = ledger.live(backend::MemoryTag::kOptimizer) - before;
    for (int number = 0; number < 4; ++number) step(blockllm, {1.0, 1.0});
    CHECK(ledger.live(backend::MemoryTag::kOptimizer) - before == taken);
    return taken;
  };
  constexpr std::size_t kBeside = 8 * (2 * 3 + 4) + 2 * 4 * 64 * 2;
  const auto near = [](std::size_t elements) {
    const double bytes = 8.0 * static_cast<double>(elements) + kBeside;
    return Approx(bytes).margin(4 * 256);  // what aligns four tensors
  };
  CHECK(static_cast<double>(bytes_of(0.1, 1)) == near(2000));
  CHECK(static_cast<double>(bytes_of(0.75, 1)) == near(3000));
  CHECK(static_cast<double>(bytes_of(1.0, 1)) == near(4000));
  CHECK(static_cast<double>(bytes_of(1.0, 4)) == near(1024));
}
