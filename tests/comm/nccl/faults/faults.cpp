// nccl_faults SCENARIO: a job whose NCCL fails in some way, for faults_test.py. Its main ends as
// that of longspan does.
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "longspan/base/error.h"
#include "longspan/comm/communicator.h"
#include "tests/comm/fake_device.h"
#include "tests/comm/nccl/fake/fake_cuda.h"
#include "tests/comm/nccl/fake/fake_nccl.h"

namespace {

using namespace longspan;

/// A rank of the job: its device goes after the communicator does.
struct Rank {
  std::unique_ptr<backend::Backend> device = testing::make_fake_device(1 << 20);
  std::unique_ptr<comm::Communicator> world;
  backend::Tensor tensor =
      device->allocate({1000}, base::DType::kFloat32, backend::MemoryTag::kGradients);

  Rank() {
    testing::set_bus_number(comm::launched_rank());
    std::string why_not;
    world = comm::make_nccl_communicator(comm::make_world_communicator(), *device, &why_not);
    device->fill(tensor, 1.0);
    world->start_all_reduce_sum(tensor, *device)->wait();
    comm::set_step(7);
  }
  bool is_last() const { return world->rank() + 1 == world->size(); }
  /// As the end of a step: the host waits for the device.
  void read() const {
    float value = 0;
    device->copy_to_host(&value, tensor.rows(0, 1), sizeof(value));
    std::printf("read\n");
    std::fflush(stdout);
  }
};

/// Says what is left of the world: the communicators, newest first.
void end_orderly() {
  Rank rank;
  comm::Communicator& world = *rank.world;
  const bool in_pair = world.rank() < 2;
  auto pair =
      world.group("pair", in_pair ? std::vector<int>{0, 1} : std::vector<int>{world.rank()});
  pair->start_all_reduce_sum(rank.tensor, *rank.device)->wait();
  const int size = world.size();
  rank.world.reset();
  if (!testing::destroyed_sizes().empty() && in_pair) throw base::InternalError("too early");
  pair.reset();
  const auto expected = in_pair ? std::vector<int>{2, size} : std::vector<int>{size};
  if (testing::destroyed_sizes() != expected) throw base::InternalError("in another order");
}

/// The last rank never takes part; the others wait for their devices.
void miss_operation() {
  Rank rank;
  if (rank.is_last()) ::sleep(1000);
  rank.world->start_all_reduce_sum(rank.tensor, *rank.device)->wait();
  rank.read();
}

/// The same, but the others wait for ranks.
void miss_operation_and_barrier() {
  Rank rank;
  if (rank.is_last()) ::sleep(1000);
  rank.world->start_all_reduce_sum(rank.tensor, *rank.device)->wait();
  rank.world->barrier();
}

/// The last rank does not come to the meeting of a new group.
void miss_meeting() {
  Rank rank;
  const auto again = rank.world->group("second", [&] {
    std::vector<int> all;
    for (int i = 0; i < rank.world->size(); ++i) all.push_back(i);
    return all;
  }());
  if (rank.is_last()) ::sleep(1000);
  again->start_all_reduce_sum(rank.tensor, *rank.device)->wait();
}

/// NCCL finds an error while the host does something else.
void fail_meanwhile() {
  Rank rank;
  rank.world->start_all_reduce_sum(rank.tensor, *rank.device)->wait();
  if (rank.is_last()) testing::fail_nccl(ncclRemoteError);
  while (true) {
    ::usleep(1000);
    rank.world->barrier();
  }
}

/// And while it waits for its device.
void fail_in_reading() {
  Rank rank;
  if (rank.is_last()) {
    ::sleep(1);
    testing::fail_nccl(ncclRemoteError);
    ::sleep(1000);
  }
  rank.world->start_all_reduce_sum(rank.tensor, *rank.device)->wait();
  testing::fail_nccl(ncclRemoteError);
  rank.read();
}

/// Aborts let the unwinding go on, which waits for the device.
void fail_in_operation() {
  Rank rank;
  if (!rank.is_last())
    rank.world->start_all_reduce_sum(rank.tensor, *rank.device)->wait();  // never done
  ::usleep(100'000);
  testing::fail_nccl(ncclRemoteError);
  rank.world->start_all_reduce_sum(rank.tensor, *rank.device)->wait();
}

/// Aborts hang, and so does the unwinding, which waits for the device.
void hang_in_abort() {
  testing::hang_in_abort();
  miss_operation_and_barrier();
}

/// A device that computes for longer than the timeout is no failure.
void compute_long() {
  Rank rank;
  for (int i = 0; i < 25000; ++i) rank.device->fill(rank.tensor, 1.0);
  rank.world->start_all_reduce_sum(rank.tensor, *rank.device)->wait();
  rank.read();
}

int fail(base::ExitCode code, const char* message) {
  if (comm::may_report()) std::fprintf(stderr, "longspan: error: %s\n", message);
  std::fflush(nullptr);
  comm::abort_world(static_cast<int>(code));
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, std::function<void()>> scenarios = {
      {"orderly", end_orderly},
      {"missing", miss_operation},
      {"missing_at_barrier", miss_operation_and_barrier},
      {"missing_at_meeting", miss_meeting},
      {"failing_meanwhile", fail_meanwhile},
      {"failing_in_reading", fail_in_reading},
      {"failing_in_operation", fail_in_operation},
      {"hanging_abort", hang_in_abort},
      {"computing_long", compute_long}};
  comm::set_timeout(3);
  try {
    scenarios.at(argc > 1 ? argv[1] : "")();
    return 0;
  } catch (const base::Error& error) {
    return fail(error.code(), error.what());
  } catch (const std::exception& error) {
    return fail(base::ExitCode::kInternal, error.what());
  }
}
