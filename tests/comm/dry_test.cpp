#include "longspan/comm/dry.h"

#include <catch2/catch.hpp>

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
    world->all_reduce_sum(tensor, *real);

    DryBackend dry(backend::DeviceProfile::load("cpu"), 1);
    DryCommunicator rank(world->rank(), world->size(), dry);
    const auto same = dry.allocate({elements}, dtype, MemoryTag::kGradients);
    dry.start_step();
    rank.all_reduce_sum(same, dry);
    const std::uint64_t sent =
        world->traffic()[Collective::kAllReduce] - before[Collective::kAllReduce];
    CHECK(rank.traffic()[Collective::kAllReduce] == sent);
    CHECK(dry.ledger().peak(MemoryTag::kCommunication) ==
          real->ledger().peak(MemoryTag::kCommunication));
  }
}

TEST_CASE("dry communicator: time by the slowest link, and none for one rank") {
  const auto profile = backend::DeviceProfile::load("h200");
  const auto seconds = [&](int ranks) {
    DryBackend dry(profile, 1);
    DryCommunicator world(0, ranks, dry);
    const auto tensor = dry.allocate({1 << 28}, base::DType::kFloat32, MemoryTag::kGradients);
    dry.start_step();
    world.all_reduce_sum(tensor, dry);
    return dry.counts().communication_seconds;
  };
  CHECK(seconds(1) == 0);
  CHECK(seconds(8) > 2.0 * 7 / 8 * (1 << 30) / profile.node_bandwidth);
  CHECK(seconds(16) > 2.0 * 15 / 16 * (1 << 30) / profile.network_bandwidth);
}

}  // namespace
}  // namespace longspan::comm
