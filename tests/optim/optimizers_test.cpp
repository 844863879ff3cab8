// What every optimizer must do: the same bits wherever its state is and however ranks cut it.
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <vector>

#include "longspan/comm/dry.h"
#include "longspan/optim/adamw_8bit.h"
#include "longspan/optim/kinds.h"

using namespace longspan;
using backend::Index;
using backend::Tensor;
using base::DType;

namespace {

constexpr std::size_t kMemory = std::size_t{1} << 30U;

struct Case : optim::OptimizerConfig {
  bool compresses = false;  ///< gradients

  std::string words() const {
    return name + (rounds_moments ? ", rounded moments" : compresses ? ", compressed" : "");
  }
};

/// Every optimizer whose state ranks may share.
std::vector<Case> shared_optimizers() {
  std::vector<Case> configs;
  for (const optim::OptimizerKind& kind : optim::optimizer_kinds()) {
    if (kind.needs_whole_parameters) continue;
    Case config;
    config.name = kind.name;
    config.seed = 5;
    config.blocks = {.active = 0.6, .interval = 2};
    configs.push_back(config);
    if (kind.takes_compressed_gradients) {
      config.compresses = true;
      configs.push_back(config);
      config.compresses = false;
    }
    if (!kind.may_round_moments) continue;
    config.rounds_moments = true;
    configs.push_back(config);
  }
  return configs;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

/// Gives directions any values.
void direct(const nn::ParameterSet& parameters, backend::Backend& backend) {
  for (int number = 0; number < parameters.directions().count(); ++number) {
    const base::RandomStream stream(4, base::Purpose::kTest, 0, static_cast<std::uint64_t>(number));
    backend.random_normal(parameters.directions().of(number), stream, 0.3, 0);
  }
}

/// Lets an optimizer that chooses parameters choose others in every step.
void choose(optim::Optimizer& optimizer, int step, std::size_t parameters) {
  if (!optimizer.observe(1.0)) return;
  std::vector<double> squares(parameters, 1.0);
  squares[static_cast<std::size_t>(step + 1) % parameters] = 100.0;
  optimizer.choose(squares);
}

/// Parameters of odd sizes, some joined, some too small for blocks, and their optimizer.
struct Trained {
  Trained(const Case& config, DType dtype, int stage = 0, comm::Communicator* ranks = nullptr)
      : backend(backend::make_cpu_backend(kMemory)) {
    parameters.declare("embedding", {131, 67}, nn::ParameterKind::kEmbedding);
    parameters.begin_unit();
    parameters.declare("query", {101, 69}, nn::ParameterKind::kMatrix);
    parameters.declare("key", {71, 69}, nn::ParameterKind::kMatrix, true);
    parameters.declare("norm", {67}, nn::ParameterKind::kNorm);
    const int down = parameters.declare("down", {67, 63}, nn::ParameterKind::kMatrix);
    if (config.compresses) {
      parameters.compress(2, parameters.directions().declare(23, 69));
      parameters.compress(down, parameters.directions().declare(9, 63));
    }
    parameters.allocate(
        *backend, dtype,
        {.zero_stage = stage, .ranks = ranks, .cut = optim::optimizer_kind(config.name).cut});
    parameters.initialise(3, 0.5);
    direct(parameters, *backend);
    optimizer = optim::make_optimizer(config, parameters, *backend);
  }

  /// Gradients that depend on the step and the element of the parameter alone.
  void step(int number) {
    for (const nn::OwnRange& range : parameters.own_ranges()) {
      const base::RandomStream stream(3, base::Purpose::kTest, static_cast<std::uint64_t>(number),
                                      static_cast<std::uint64_t>(range.number));
      backend->random_normal(parameters.own_gradient(range), stream, 0.3,
                             static_cast<std::uint64_t>(range.gradient.begin));
    }
    choose(*optimizer, number, parameters.parameters().size());
    optimizer->step(0.01, 0.7);
  }

  std::unique_ptr<backend::Backend> backend;
  nn::ParameterSet parameters;
  std::unique_ptr<optim::Optimizer> optimizer;
};

}  // namespace

TEST_CASE("states and weights are the same bits at any number of ranks and ZeRO stage") {
  const Case config = GENERATE(from_range(shared_optimizers()));
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  INFO(config.words() << ", " << base::name_of(dtype));
  Trained alone(config, dtype);
  for (int number = 0; number < 3; ++number) alone.step(number);
  const auto expected = alone.optimizer->states();
  for (const int ranks : {2, 3, 4, 7}) {
    for (const int stage : {0, 1, 2, 3}) {
      std::size_t compared = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        INFO(rank << " of " << ranks << " at stage " << stage);
        backend::DryBackend nothing(backend::DeviceProfile::load("cpu"), 1);
        comm::DryCommunicator world(rank, ranks, nothing);
        Trained part(config, dtype, stage, &world);
        for (int number = 0; number < 3; ++number) part.step(number);
        const auto found = part.optimizer->states();
        REQUIRE(found.size() == expected.size());
        for (std::size_t i = 0; i < found.size(); ++i) {
          INFO(found[i].name);
          CHECK(found[i].name == expected[i].name);
          CHECK(found[i].shape == expected[i].shape);
          const int known_as = stage == 0 ? 0 : rank;
          const shard::Range own = found[i].part(part.parameters, known_as);
          CHECK(same_bytes(found[i].held, expected[i].held.rows(own.begin, own.end)));
          if (found[i].is_split) compared += found[i].held.bytes();
        }
        for (const nn::OwnRange& range : part.parameters.own_ranges()) {
          const Index begin = alone.parameters.at(range.number).offset + range.elements.begin;
          CHECK(same_bytes(part.parameters.own_weight(range),
                           alone.parameters.weights().rows(begin, begin + range.elements.size())));
        }
      }
      std::size_t whole = 0;
      for (const auto& state : expected) whole += state.is_split ? state.held.bytes() : 0;
      CHECK(compared == whole * (stage == 0 ? static_cast<std::size_t>(ranks) : 1));
    }
  }
}

TEST_CASE("state on the host gives the same bits as state on the device") {
  const Case config = GENERATE(from_range(shared_optimizers()));
  const optim::OptimizerKind& kind = optim::optimizer_kind(config.name);
  if (!kind.may_be_on_host) return;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16, DType::kFloat64);
  if (dtype == DType::kFloat64 && (config.rounds_moments || !kind.does_float64)) return;
  INFO(config.words() << ", " << base::name_of(dtype));
  // Chunks end within a parameter, and elements behind another number of whole vectors.
  const Index rows = 3001;
  const Index columns = 1501;
  const auto device = backend::make_cpu_backend(kMemory);
  const auto host = backend::make_cpu_backend(kMemory);
  const auto declare = [&](nn::ParameterSet& set) {
    set.declare("embedding", {5, 7}, nn::ParameterKind::kEmbedding);
    set.declare("matrix", {rows, columns}, nn::ParameterKind::kMatrix);
    set.declare("norm", {9}, nn::ParameterKind::kNorm);
    if (config.compresses) set.compress(1, set.directions().declare(79, columns));
    set.allocate(*device, dtype, {.cut = kind.cut});
    set.initialise(7, 0.5);
    direct(set, *device);
  };
  nn::ParameterSet first;
  nn::ParameterSet second;
  declare(first);
  declare(second);
  const auto resident = optim::make_optimizer(config, first, *device);
  const std::size_t before = device->ledger().live(backend::MemoryTag::kOptimizer);
  const auto offloaded = optim::make_optimizer(config, second, *device, host.get());
  CHECK(device->ledger().live(backend::MemoryTag::kOptimizer) == before);
  CHECK(&offloaded->home() == host.get());
  for (int step = 1; step <= 3; ++step) {
    const base::RandomStream stream(3, base::Purpose::kTest, 0, static_cast<std::uint64_t>(step));
    device->random_normal(first.gradients(), stream, 1.0, 0);
    device->copy(second.gradients(), first.gradients());
    choose(*resident, step, 3);
    choose(*offloaded, step, 3);
    resident->step(0.01, 0.7);
    offloaded->step(0.01, 0.7);
    CHECK(same_bytes(first.weights(), second.weights()));
    const auto expected = resident->states();
    const auto found = offloaded->states();
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      INFO(found[i].name);
      CHECK(found[i].name == expected[i].name);
      CHECK(same_bytes(found[i].held, expected[i].held));
    }
  }
}

TEST_CASE("8-bit moments take two bytes an element and eight a block, small parameters as ever") {
  Case config;
  config.name = "adamw_8bit";
  const Trained trained(config, DType::kFloat32);
  std::size_t bytes = 0;
  for (const optim::StateTensor& state : trained.optimizer->states()) {
    const bool is_large =
        trained.parameters.at(state.parameter).shape.elements() >= optim::Adamw8Bit::kLeast;
    const bool is_scale = state.name.find("_scale.") != std::string::npos;
    CHECK(state.held.dtype() == (is_large && !is_scale ? DType::kUInt8 : DType::kFloat32));
    CHECK((is_large || !is_scale));
    bytes += state.held.bytes();
  }
  std::size_t expected = 0;
  for (const nn::Parameter& parameter : trained.parameters.parameters()) {
    const auto elements = static_cast<std::size_t>(parameter.shape.elements());
    expected += elements >= 4096 ? 2 * elements + 8 * ((elements + 255) / 256) : 8 * elements;
  }
  CHECK(bytes == expected);
  // And no more of memory, but for what aligns them.
  const std::size_t taken = trained.backend->ledger().live(backend::MemoryTag::kOptimizer);
  CHECK(taken >= bytes);
  CHECK(taken <= bytes + 12 * 5 * 256);
}

TEST_CASE("8-bit moments and rounded ones train nearly as full ones do") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  Case config;
  Trained full(config, dtype);
  config.rounds_moments = true;
  Trained rounded(config, dtype);
  config.rounds_moments = false;
  config.name = "adamw_8bit";
  Trained quantised(config, dtype);
  const std::vector<Tensor> before = [&] {
    const Tensor copy =
        full.backend->allocate({full.parameters.elements()}, dtype, backend::MemoryTag::kWorkspace);
    full.backend->copy(copy, full.parameters.weights());
    return std::vector<Tensor>{copy};
  }();
  for (int number = 0; number < 20; ++number) {
    for (Trained* one : {&full, &rounded, &quantised}) one->step(number);
  }
  const auto distance = [&](const Tensor& a, const Tensor& b) {
    const Tensor wide_a =
        full.backend->allocate({a.elements()}, DType::kFloat32, backend::MemoryTag::kWorkspace);
    const Tensor wide_b =
        full.backend->allocate({b.elements()}, DType::kFloat32, backend::MemoryTag::kWorkspace);
    full.backend->copy(wide_a, a);
    full.backend->copy(wide_b, b);
    full.backend->scale(wide_b, -1.0);
    full.backend->accumulate(wide_a, wide_b);
    return std::sqrt(full.backend->sum_of_squares(wide_a));
  };
  const double moved = distance(full.parameters.weights(), before.front());
  CHECK(moved > 0.5);
  CHECK(distance(rounded.parameters.weights(), full.parameters.weights()) < 0.02 * moved);
  CHECK(distance(quantised.parameters.weights(), full.parameters.weights()) < 0.05 * moved);
  CHECK(distance(rounded.parameters.weights(), full.parameters.weights()) > 0);
  CHECK(distance(quantised.parameters.weights(), full.parameters.weights()) > 0);
}
