#include "longspan/comm/dry.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "comm/done.h"
#include "comm/group.h"
#include "comm/reduce_scatter.h"

namespace longspan::comm {

using backend::Tensor;

namespace {

std::vector<int> all_ranks(int size) {
  std::vector<int> ranks(static_cast<std::size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

}  // namespace

DryCommunicator::DryCommunicator(int rank, int size, backend::DryBackend& backend,
                                 bool share_devices)
    : DryCommunicator(rank, all_ranks(size), backend,
                      share_devices || backend.profile().kind == "cpu") {}

DryCommunicator::DryCommunicator(int rank, std::vector<int> world_ranks,
                                 backend::DryBackend& backend, bool goes_by_mpi)
    : rank_(rank),
      world_ranks_(std::move(world_ranks)),
      goes_by_mpi_(goes_by_mpi),
      backend_(&backend) {
  const auto node_of = [&](int member) {
    return world_ranks_[static_cast<std::size_t>(member)] / backend.profile().devices_per_node;
  };
  for (int member = 0; member < size(); ++member) {
    if (node_of(member) != node_of(rank)) continue;
    if (member < rank) ++local_rank_;
    ++local_size_;
  }
}

std::unique_ptr<Communicator> DryCommunicator::group(const std::string& /*name*/,
                                                     const std::vector<int>& members) {
  const int position = position_in(members, rank_, size());
  std::vector<int> world_ranks;
  for (const int member : members) {
    world_ranks.push_back(world_ranks_[static_cast<std::size_t>(member)]);
  }
  auto group = std::unique_ptr<DryCommunicator>(
      new DryCommunicator(position, std::move(world_ranks), *backend_, goes_by_mpi_));
  group->traffic_ = traffic_;
  return group;
}

/// Nothing is to be waited for where the device's other work did not go on.
class DryCommunicator::Sending : public Pending {
 public:
  Sending(backend::DryBackend& backend, double end) : backend_(&backend), end_(end) {}
  void wait() override { backend_->await(end_); }

 private:
  backend::DryBackend* backend_;
  double end_;
};

/// A group that spans machines goes at the pace of the network between them.
std::unique_ptr<Pending> DryCommunicator::start(double bytes, double messages) {
  if (size() == 1) return std::make_unique<Done>();
  const backend::DeviceProfile& device = backend_->profile();
  const double bandwidth = size() > local_size_ ? device.network_bandwidth : device.node_bandwidth;
  const double end =
      backend_->start_communication(bytes / bandwidth + messages * device.link_latency);
  if (!backend_->is_asynchronous()) backend_->await(end);
  return std::make_unique<Sending>(*backend_, end);
}

std::unique_ptr<Pending> DryCommunicator::start(Collective kind, std::uint64_t bytes,
                                                double messages) {
  if (size() > 1) (*traffic_)[kind] += bytes;
  return start(static_cast<double>(bytes), messages);
}

/// MPI sums in a staging buffer; NCCL needs none.
Tensor DryCommunicator::staging(const Offsets& offsets, base::DType dtype) {
  if (!goes_by_mpi_) return {};
  return backend_->allocate({ReduceScatter(offsets, dtype).staging()}, dtype,
                            backend::MemoryTag::kCommunication);
}

std::unique_ptr<Pending> DryCommunicator::start_all_reduce_sum(const Tensor& tensor,
                                                               backend::Backend& /*backend*/) {
  if (size() == 1) return std::make_unique<Done>();
  const Offsets offsets = even_offsets(tensor.elements(), size());
  const Tensor held = staging(offsets, tensor.dtype());
  return start(Collective::kAllReduce,
               bytes_to_share(offsets, rank_, tensor.dtype()) +
                   bytes_to_gather(offsets, rank_, tensor.dtype()),
               2);
}

void DryCommunicator::all_reduce_sum(std::vector<double>& values) {
  start(static_cast<double>(values.size() * sizeof(double)), 1)->wait();
}

void DryCommunicator::all_reduce_max(std::vector<double>& values) { all_reduce_sum(values); }

void DryCommunicator::broadcast(std::string& bytes, int root) {
  const std::uint64_t sent = bytes.size() * static_cast<std::uint64_t>(size() - 1);
  start(Collective::kBroadcast, rank_ == root ? sent : 0, 1)->wait();
}

std::unique_ptr<Pending> DryCommunicator::start_reduce_scatter_sum(const Tensor& /*part*/,
                                                                   const Tensor& whole,
                                                                   const Offsets& offsets,
                                                                   backend::Backend& /*backend*/) {
  const Tensor held = staging(offsets, whole.dtype());
  return start(Collective::kReduceScatter, bytes_to_share(offsets, rank_, whole.dtype()), 1);
}

std::unique_ptr<Pending> DryCommunicator::start_all_gather(const Tensor& whole,
                                                           const Offsets& offsets,
                                                           backend::Backend& /*backend*/) {
  return start(Collective::kAllGather, bytes_to_gather(offsets, rank_, whole.dtype()), 1);
}

void DryCommunicator::all_to_all(const Tensor& /*receive*/, const Offsets& /*receive_offsets*/,
                                 const Tensor& tensor, const Offsets& send_offsets,
                                 backend::Backend& /*backend*/) {
  start(Collective::kAllToAll, bytes_to_share(send_offsets, rank_, tensor.dtype()), size() - 1)
      ->wait();
}

std::unique_ptr<Pending> DryCommunicator::start_send_receive(const Tensor& /*receive*/,
                                                             int /*from*/, const Tensor& tensor,
                                                             int to,
                                                             backend::Backend& /*backend*/) {
  return start(Collective::kSendReceive, to == rank_ ? 0 : tensor.bytes(), 1);
}

std::vector<std::string> DryCommunicator::all_gather(const std::string& bytes) {
  return std::vector<std::string>(static_cast<std::size_t>(size()), bytes);
}

void DryCommunicator::barrier() { start(0, 1)->wait(); }

}  // namespace longspan::comm
