#include "tests/comm/bench.h"
#include "tests/comm/fake_device.h"

namespace longspan::testing {

/// MPI with tensors in the host's memory, and with those of a device, which it may not touch.
const std::vector<Bench>& benches() {
  // One for the process: MPI is started once and finalised at exit.
  static const auto world = comm::make_world_communicator();
  static const std::vector<Bench> all = {
      {"cpu", [] { return backend::make_cpu_backend(std::size_t{1} << 28U); }, world.get(), true},
      {"staged", [] { return make_fake_device(std::size_t{1} << 28U); }, world.get(), true}};
  return all;
}

}  // namespace longspan::testing
