// Whether NCCL serves, and the communicator.
#include <fmt/format.h>

#include <array>
#include <fstream>
#include <map>

#include "comm/cuda/nccl_communicator.h"

namespace longspan::comm {
namespace {

/// One start of one machine's system.
std::string machine() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  return id;
}

/// What tells a GPU from all others of the job: NCCL goes by the machine and the place on its bus,
/// too. Containers of one machine differ in their host's name, but not in its start.
std::string identity_of(const backend::Backend& backend) {
  if (backend.streams() == nullptr) return "";
  std::array<char, 64> bus{};
  backend::cuda::check(
      cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), backend.streams()->device()),
      "cudaDeviceGetPCIBusId");
  return fmt::format("GPU {} of machine {}", bus.data(), machine());
}

/// Of all ranks' GPUs; "" when nothing is in NCCL's way.
std::string find_obstacle(const std::vector<std::string>& identities) {
  std::map<std::string, std::size_t> owners;
  for (std::size_t rank = 0; rank < identities.size(); ++rank) {
    if (identities[rank].empty()) {
      return fmt::format("the tensors of rank {} lie in the host's memory", rank);
    }
    const auto [owner, is_new] = owners.emplace(identities[rank], rank);
    if (!is_new) {
      return fmt::format("ranks {} and {} share one GPU, and NCCL wants one for each",
                         owner->second, rank);
    }
  }
  return "";
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host,
                                                     backend::Backend& backend,
                                                     std::string* why_not) {
  why_not->clear();
  if (host->size() == 1) return make_single_communicator();
  *why_not = find_obstacle(host->all_gather(identity_of(backend)));
  if (!why_not->empty()) return host;
  const int world_rank = host->rank();
  auto world = std::make_unique<NcclCommunicator>(std::move(host), "the world", world_rank);
  world->meet(backend);
  return world;
}

}  // namespace longspan::comm
