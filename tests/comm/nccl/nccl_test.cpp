#include <catch2/catch.hpp>

#include "longspan/base/error.h"
#include "tests/comm/bench.h"
#include "tests/comm/fake_device.h"
#include "tests/comm/nccl/fake/fake_cuda.h"

// What only the NCCL communicator does; its collectives are tested by communicator_test.cpp.
using namespace longspan;
using longspan::testing::make_fake_device;

namespace {

/// The world's, with a GPU each: the first bench's.
comm::Communicator& world() { return *longspan::testing::benches().front().world; }

struct Made {
  std::unique_ptr<comm::Communicator> world;
  std::string why_not;
};

Made make_on(backend::Backend& backend) {
  Made made;
  made.world =
      comm::make_nccl_communicator(comm::make_world_communicator(), backend, &made.why_not);
  return made;
}

}  // namespace

TEST_CASE("NCCL serves where every rank has a GPU") {
  CHECK(world().name() == (world().size() > 1 ? "nccl" : "single"));
}

TEST_CASE("ranks that share a GPU go through the host's memory, and are told why") {
  if (world().size() == 1) return;
  const int last = world().size() - 1;
  // The last two share one.
  longspan::testing::set_bus_number(world().rank() == last ? last - 1 : world().rank());
  const auto device = make_fake_device(1 << 20);
  const auto made = make_on(*device);
  longspan::testing::set_bus_number(world().rank());
  CHECK(made.world->name() == "mpi");
  CHECK_THAT(made.why_not, Catch::StartsWith("ranks " + std::to_string(last - 1) + " and " +
                                             std::to_string(last) + " share one GPU"));
}

TEST_CASE("tensors of the host need no NCCL") {
  if (world().size() == 1) return;
  const auto cpu = backend::make_cpu_backend(1 << 20);
  const auto made = make_on(*cpu);
  CHECK(made.world->name() == "mpi");
  CHECK_THAT(made.why_not, Catch::Contains("host's memory"));
}

TEST_CASE("tensors of the host's memory travel beside those of the device") {
  const auto cpu = backend::make_cpu_backend(1 << 20);
  const auto tensor = cpu->allocate({5}, base::DType::kFloat32, backend::MemoryTag::kWeights);
  cpu->fill(tensor, 1.0);
  world().start_all_reduce_sum(tensor, *cpu)->wait();
  CHECK(tensor.data<float>()[4] == static_cast<float>(world().size()));
  const comm::Offsets offsets = comm::even_offsets(5, world().size());
  world().start_all_gather(tensor, offsets, *cpu)->wait();
  CHECK(tensor.data<float>()[0] == static_cast<float>(world().size()));
}

TEST_CASE("a rank that sends to itself and receives from another is refused") {
  if (world().size() == 1) return;
  const auto device = make_fake_device(1 << 20);
  const auto tensor = device->allocate({1}, base::DType::kFloat32, backend::MemoryTag::kWeights);
  const int next = (world().rank() + 1) % world().size();
  CHECK_THROWS_AS(world().start_send_receive(tensor, next, tensor, world().rank(), *device),
                  base::InternalError);
}
