#include "longspan/comm/dry.h"

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "longspan/comm/communicator.h"

namespace longspan::comm {
namespace {

using backend::DryBackend;
using backend::Index;
using backend::MemoryTag;

TEST_CASE("dry communicator: bytes and staging of this world's real all-reduce") {
  const auto world = make_world_communicator();
  const auto dtype = GENERATE(base::DType::kFloat32, base::DType::kFloat64);
  for (const Index elements : {0, 1, 5, 1000, 262144, 2000003}) {
    INFO(elements << " elements");
    const auto real = backend::make_cpu_backend(std::size_t{64} << 20U);
    const auto tensor = real->allocate({elements}, dtype, MemoryTag::kGradients);
    real->zero(tensor);
    const Traffic before = world->traffic();
    world->start_all_reduce_sum(tensor, *real)->wait();

    DryBackend dry(backend::DeviceProfile::load("cpu"), 1);
    DryCommunicator rank(world->rank(), world->size(), dry);
    const auto same = dry.allocate({elements}, dtype, MemoryTag::kGradients);
    dry.start_step();
    rank.start_all_reduce_sum(same, dry)->wait();
    const std::uint64_t sent =
        world->traffic()[Collective::kAllReduce] - before[Collective::kAllReduce];
    CHECK(rank.traffic()[Collective::kAllReduce] == sent);
    CHECK(dry.ledger().peak(MemoryTag::kCommunication) ==
          real->ledger().peak(MemoryTag::kCommunication));
  }
}

TEST_CASE("dry communicator: ranks that share a GPU stage their sums there") {
  const auto peak = [](bool share_devices) {
    DryBackend dry(backend::DeviceProfile::load("h200"), 1);
    DryCommunicator world(0, 4, dry, share_devices);
    const auto group = world.group("all", {0, 1, 2, 3});
    const auto tensor = dry.allocate({1 << 24}, base::DType::kFloat32, MemoryTag::kGradients);
    dry.start_step();
    group->start_all_reduce_sum(tensor, dry)->wait();
    return dry.ledger().peak(MemoryTag::kCommunication);
  };
  CHECK(peak(false) == 0);
  CHECK(peak(true) == 4U << 20U);
}

TEST_CASE("dry communicator: time by the slowest link, and none for one rank") {
  const auto profile = backend::DeviceProfile::load("h200");
  const auto seconds = [&](int ranks) {
    DryBackend dry(profile, 1);
    DryCommunicator world(0, ranks, dry);
    const auto tensor = dry.allocate({1 << 28}, base::DType::kFloat32, MemoryTag::kGradients);
    dry.start_step();
    world.start_all_reduce_sum(tensor, dry)->wait();
    return dry.counts().communication_seconds;
  };
  CHECK(seconds(1) == 0);
  CHECK(seconds(8) > 2.0 * 7 / 8 * (1 << 30) / profile.node_bandwidth);
  CHECK(seconds(16) > 2.0 * 15 / 16 * (1 << 30) / profile.network_bandwidth);
}

TEST_CASE("dry communicator: what is started on a GPU takes what its other work leaves of it") {
  DryBackend dry(backend::DeviceProfile::load("h200"), 1);
  DryCommunicator world(0, 8, dry);
  const auto gradients = dry.allocate({1 << 28}, base::DType::kFloat32, MemoryTag::kGradients);
  const auto other = dry.allocate({1 << 26}, base::DType::kFloat32, MemoryTag::kWorkspace);
  const auto exposed = [&](int fills, int sums) {
    dry.start_step();
    std::vector<std::unique_ptr<Pending>> pending;
    for (int i = 0; i < sums; ++i) pending.push_back(world.start_all_reduce_sum(gradients, dry));
    for (int i = 0; i < fills; ++i) dry.fill(other, 0);
    for (const auto& one : pending) one->wait();
    return dry.counts().communication_seconds;
  };
  const double alone = exposed(0, 1);
  const double fill = [&] {
    exposed(1, 0);
    return dry.counts().compute_seconds;
  }();
  CHECK(exposed(0, 2) == Approx(2 * alone));  // one after the other
  CHECK(exposed(5, 1) == Approx(alone - 5 * fill));
  CHECK(exposed(5, 2) == Approx(2 * alone - 5 * fill));
  CHECK(exposed(static_cast<int>(alone / fill) + 1, 1) == 0);
}

}  // namespace
}  // namespace longspan::comm
