#include "tests/comm/bench.h"
#include "tests/comm/fake_device.h"
#include "tests/comm/nccl/fake/fake_cuda.h"

namespace longspan::testing {
namespace {

std::unique_ptr<comm::Communicator> make_world() {
  set_bus_number(comm::launched_rank());
  const auto device = make_fake_device(std::size_t{1} << 20U);
  std::string why_not;
  return comm::make_nccl_communicator(comm::make_world_communicator(), *device, &why_not);
}

}  // namespace

/// The real NCCL communicator over a fake NCCL.
const std::vector<Bench>& benches() {
  static const auto world = make_world();
  static const std::vector<Bench> all = {
      {"nccl", [] { return make_fake_device(std::size_t{1} << 28U); }, world.get(), false}};
  return all;
}

}  // namespace longspan::testing
