#include "longspan/comm/dry.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "comm/all_reduce.h"
#include "comm/group.h"

namespace longspan::comm {

using backend::Index;
using backend::Tensor;

namespace {

std::vector<int> all_ranks(int size) {
  std::vector<int> ranks(static_cast<std::size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

}  // namespace

DryCommunicator::DryCommunicator(int rank, int size, backend::DryBackend& backend)
    : DryCommunicator(rank, all_ranks(size), backend) {}

DryCommunicator::DryCommunicator(int rank, std::vector<int> world_ranks,
                                 backend::DryBackend& backend)
    : rank_(rank), world_ranks_(std::move(world_ranks)), backend_(&backend) {
  const auto node_of = [&](int member) {
    return world_ranks_[static_cast<std::size_t>(member)] / backend.profile().devices_per_node;
  };
  for (int member = 0; member < size(); ++member) {
    if (node_of(member) != node_of(rank)) continue;
    if (member < rank) ++local_rank_;
    ++local_size_;
  }
}

std::unique_ptr<Communicator> DryCommunicator::group(const std::vector<int>& members) {
  const int position = position_in(members, rank_, size());
  std::vector<int> world_ranks;
  for (const int member : members) {
    world_ranks.push_back(world_ranks_[static_cast<std::size_t>(member)]);
  }
  return std::unique_ptr<Communicator>(
      new DryCommunicator(position, std::move(world_ranks), *backend_));
}

/// A group that spans machines goes at the pace of the network between them.
void DryCommunicator::send_time(double bytes, double messages) {
  const backend::DeviceProfile& device = backend_->profile();
  const double bandwidth = size() > local_size_ ? device.network_bandwidth : device.node_bandwidth;
  backend_->communicate(bytes / bandwidth + messages * device.link_latency);
}

void DryCommunicator::all_reduce_sum(const Tensor& tensor, backend::Backend& backend) {
  if (size() == 1) return;
  const AllReduce plan(tensor.elements(), tensor.dtype(), size());
  // MPI needs a staging buffer; NCCL sums in place.
  Tensor staging;
  if (backend_->profile().kind == "cpu") {
    staging = backend.allocate({plan.piece}, tensor.dtype(), backend::MemoryTag::kCommunication);
  }
  for (Index begin = 0; begin < plan.elements; begin += plan.piece) {
    const Index elements = std::min(plan.piece, plan.elements - begin);
    const std::uint64_t bytes = plan.bytes_sent(rank_, elements);
    traffic_[Collective::kAllReduce] += bytes;
    // Every element but a rank's own share goes out, and every sum comes back to all others.
    world_traffic_[Collective::kAllReduce] +=
        static_cast<std::uint64_t>(2 * elements * plan.element_bytes) *
        static_cast<std::uint64_t>(size() - 1);
    send_time(static_cast<double>(bytes), 2);
  }
}

void DryCommunicator::all_reduce_sum(std::vector<double>& values) {
  if (size() > 1) send_time(static_cast<double>(values.size() * sizeof(double)), 1);
}

void DryCommunicator::all_reduce_max(std::vector<double>& values) { all_reduce_sum(values); }

void DryCommunicator::broadcast(std::string& bytes, int root) {
  if (size() == 1) return;
  const std::uint64_t sent = bytes.size() * static_cast<std::uint64_t>(size() - 1);
  if (rank_ == root) traffic_[Collective::kBroadcast] += sent;
  world_traffic_[Collective::kBroadcast] += sent;
  send_time(static_cast<double>(bytes.size()), 1);
}

void DryCommunicator::all_to_all(const Tensor& /*receive*/,
                                 const std::vector<Index>& /*receive_offsets*/, const Tensor& send,
                                 const std::vector<Index>& send_offsets,
                                 backend::Backend& /*backend*/) {
  const auto me = static_cast<std::size_t>(rank_);
  const Index mine = send_offsets[me + 1] - send_offsets[me];
  const std::uint64_t bytes =
      static_cast<std::uint64_t>(send_offsets.back() - mine) * base::size_of(send.dtype());
  traffic_[Collective::kAllToAll] += bytes;
  world_traffic_[Collective::kAllToAll] += bytes * static_cast<std::uint64_t>(size());
  if (size() > 1) send_time(static_cast<double>(bytes), size() - 1);
}

std::vector<std::string> DryCommunicator::all_gather(const std::string& bytes) {
  return std::vector<std::string>(static_cast<std::size_t>(size()), bytes);
}

void DryCommunicator::barrier() {
  if (size() > 1) send_time(0, 1);
}

}  // namespace longspan::comm
