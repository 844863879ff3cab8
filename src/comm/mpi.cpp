#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "comm/deadline.h"
#include "comm/done.h"
#include "comm/group.h"
#include "comm/message_parts.h"
#include "comm/mpi.h"
#include "comm/mpi_watch.h"
#include "comm/reduce_scatter.h"
#include "comm/shares.h"
#include "comm/staging.h"
#include "longspan/base/error.h"
#include "longspan/comm/communicator.h"

namespace longspan::comm {
namespace {

using backend::Index;
using backend::Tensor;

/// The ranks wait for each other here, because MPI_Finalize could not tell which one is missing.
void finalize_at_exit() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized != 0) return;
  try {
    Requests requests({"the end", "the world", launched_rank()});
    check(MPI_Ibarrier(MPI_COMM_WORLD, requests.add()), "the end");
    requests.wait();
  } catch (const base::PeerError& error) {
    std::fprintf(stderr, "longspan: error: %s\n", error.what());
    std::fflush(nullptr);
    abort_world(static_cast<int>(error.code()));
  }
  const Deadline deadline("MPI_Finalize");
  MPI_Finalize();
}

void initialise_once() {
  int initialised = 0;
  MPI_Initialized(&initialised);
  if (initialised != 0) return;
  int provided = 0;
  const Deadline deadline("MPI_Init");
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  std::atexit(finalize_at_exit);
}

/// Requests that keep the buffers of their operation.
class PendingRequests : public Pending {
 public:
  PendingRequests(Requests requests, Staging staging, std::vector<Tensor> tensors)
      : tensors_(std::move(tensors)),
        staging_(std::move(staging)),
        requests_(std::move(requests)) {}
  void wait() override {
    requests_.wait();
    staging_.deliver();
  }

 private:
  std::vector<Tensor> tensors_;
  Staging staging_;
  Requests requests_;  // goes first: it may have to wait for what the tensors receive
};

class MpiCommunicator : public Communicator {
 public:
  /// Of every rank of the job.
  explicit MpiCommunicator(std::size_t longest_message)
      : comm_(MPI_COMM_WORLD), description_("the world"), longest_message_(longest_message) {
    initialise_once();
    find_ranks();
    world_rank_ = rank_;
  }
  /// A part of `parent`; takes `comm` over.
  MpiCommunicator(MPI_Comm comm, std::string description, const MpiCommunicator& parent)
      : comm_(comm),
        description_(std::move(description)),
        longest_message_(parent.longest_message_),
        world_rank_(parent.world_rank_),
        host_buffers_(parent.host_buffers_) {
    traffic_ = parent.traffic_;
    find_ranks();
  }
  ~MpiCommunicator() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    const bool is_failing = is_broken() || std::uncaught_exceptions() > 0;
    if (comm_ != MPI_COMM_WORLD && finalized == 0 && !is_failing) MPI_Comm_free(&comm_);
  }

  std::string name() const override { return "mpi"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }

  std::unique_ptr<Pending> start_all_reduce_sum(const Tensor& tensor,
                                                backend::Backend& backend) override;
  void all_reduce_sum(std::vector<double>& values) override;
  void all_reduce_max(std::vector<double>& values) override;
  void broadcast(std::string& bytes, int root) override;
  std::unique_ptr<Pending> start_reduce_scatter_sum(const Tensor& part, const Tensor& whole,
                                                    const Offsets& offsets,
                                                    backend::Backend& backend) override;
  std::unique_ptr<Pending> start_all_gather(const Tensor& whole, const Offsets& offsets,
                                            backend::Backend& backend) override;
  void all_to_all(const Tensor& receive, const Offsets& receive_offsets, const Tensor& send,
                  const Offsets& send_offsets, backend::Backend& backend) override;
  std::unique_ptr<Pending> start_send_receive(const Tensor& receive, int from, const Tensor& send,
                                              int to, backend::Backend& backend) override;
  std::vector<std::string> all_gather(const std::string& bytes) override;
  void barrier() override;
  std::unique_ptr<Communicator> group(const std::string& name,
                                      const std::vector<int>& members) override;

 private:
  void find_ranks();
  Requests start(const char* operation) const {
    return Requests({operation, description_, world_rank_});
  }
  Staging stage(backend::Backend& backend) const { return {backend, *host_buffers_}; }
  /// Called in the same order at both ends. Nothing is sent for no elements.
  void post_receive(Requests& requests, const Tensor& tensor, int from) const;
  void post_send(Requests& requests, const Tensor& tensor, int to) const;
  /// Calls visit(peer) for every other rank, each rank beginning with another one.
  template <typename Visit>
  void for_each_source(const Visit& visit) const {
    for (int step = 1; step < size_; ++step) visit((rank_ + size_ - step) % size_);
  }
  template <typename Visit>
  void for_each_target(const Visit& visit) const {
    for (int step = 1; step < size_; ++step) visit((rank_ + step) % size_);
  }
  void share_sum(const Tensor& part, const Tensor& whole, const Offsets& offsets,
                 const char* operation, backend::Backend& backend);
  Requests gather_shares(Staging& staging, const Tensor& whole, const Offsets& offsets,
                         const char* operation) const;

  MPI_Comm comm_;
  std::string description_;
  std::size_t longest_message_;
  int world_rank_ = 0;
  std::shared_ptr<HostBuffers> host_buffers_ = std::make_shared<HostBuffers>();
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
};

void MpiCommunicator::find_ranks() {
  check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  MPI_Comm local = MPI_COMM_NULL;
  const Deadline deadline("MPI_Comm_split_type", description_);
  check(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local),
        "MPI_Comm_split_type");
  check(MPI_Comm_rank(local, &local_rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(local, &local_size_), "MPI_Comm_size");
  check(MPI_Comm_free(&local), "MPI_Comm_free");
}

std::unique_ptr<Communicator> MpiCommunicator::group(const std::string& name,
                                                     const std::vector<int>& members) {
  const int position = position_in(members, rank_, size_);
  barrier();  // can tell which rank is missing, which splitting cannot
  MPI_Comm part = MPI_COMM_NULL;
  {
    const Deadline deadline("MPI_Comm_split", description_);
    check(MPI_Comm_split(comm_, members.front(), position, &part), "MPI_Comm_split");
  }
  return std::make_unique<MpiCommunicator>(part, describe_group(name, members), *this);
}

void MpiCommunicator::post_receive(Requests& requests, const Tensor& tensor, int from) const {
  for_each_part(static_cast<std::byte*>(tensor.raw()), tensor.bytes(), longest_message_,
                [&](auto* data, int count) {
                  check(MPI_Irecv(data, count, MPI_BYTE, from, 0, comm_, requests.add()),
                        requests.operation());
                });
}

void MpiCommunicator::post_send(Requests& requests, const Tensor& tensor, int to) const {
  for_each_part(static_cast<std::byte*>(tensor.raw()), tensor.bytes(), longest_message_,
                [&](auto* data, int count) {
                  check(MPI_Isend(data, count, MPI_BYTE, to, 0, comm_, requests.add()),
                        requests.operation());
                });
}

void MpiCommunicator::share_sum(const Tensor& part, const Tensor& whole, const Offsets& offsets,
                                const char* operation, backend::Backend& backend) {
  const ReduceScatter plan(offsets, whole.dtype());
  const Tensor staging =
      backend.allocate({plan.staging()}, whole.dtype(), backend::MemoryTag::kCommunication);
  for (Index begin = 0; begin < plan.longest_share; begin += plan.slice) {
    const auto slice_of = [&](const Tensor& any_share) {
      const Index end = std::min(begin + plan.slice, any_share.elements());
      return any_share.rows(std::min(begin, end), end);
    };
    const Tensor sum = slice_of(part);
    const auto staged = [&](int rank) {
      return staging.rows(rank * plan.slice, rank * plan.slice + sum.elements());
    };
    Staging messages = stage(backend);
    Requests requests = start(operation);
    for_each_source(
        [&](int peer) { post_receive(requests, messages.incoming(staged(peer)), peer); });
    for_each_target([&](int peer) {
      post_send(requests, messages.outgoing(slice_of(share(whole, offsets, peer))), peer);
    });
    backend.copy(staged(rank_), slice_of(share(whole, offsets, rank_)));
    requests.wait();
    messages.deliver();
    backend.copy(sum, staged(0));
    for (int rank = 1; rank < size_; ++rank) backend.accumulate(sum, staged(rank));
  }
}

Requests MpiCommunicator::gather_shares(Staging& staging, const Tensor& whole,
                                        const Offsets& offsets, const char* operation) const {
  Requests requests = start(operation);
  for_each_source([&](int peer) {
    post_receive(requests, staging.incoming(share(whole, offsets, peer)), peer);
  });
  if (size_ == 1) return requests;
  const Tensor own = staging.outgoing(share(whole, offsets, rank_));
  for_each_target([&](int peer) { post_send(requests, own, peer); });
  return requests;
}

// The host adds, slice by slice: sums are over when they were started.

std::unique_ptr<Pending> MpiCommunicator::start_all_reduce_sum(const Tensor& tensor,
                                                               backend::Backend& backend) {
  const Offsets offsets = even_offsets(tensor.elements(), size_);
  check_vector(tensor, offsets, size_, "all-reduce");
  if (size_ == 1) return std::make_unique<Done>();
  share_sum(share(tensor, offsets, rank_), tensor, offsets, "the all-reduce", backend);
  Staging staging = stage(backend);
  gather_shares(staging, tensor, offsets, "the all-reduce").wait();
  staging.deliver();
  (*traffic_)[Collective::kAllReduce] += bytes_to_share(offsets, rank_, tensor.dtype()) +
                                         bytes_to_gather(offsets, rank_, tensor.dtype());
  return std::make_unique<Done>();
}

std::unique_ptr<Pending> MpiCommunicator::start_reduce_scatter_sum(const Tensor& part,
                                                                   const Tensor& whole,
                                                                   const Offsets& offsets,
                                                                   backend::Backend& backend) {
  check_vector(whole, offsets, size_, "reduce-scatter");
  check_part(part, offsets, rank_);
  share_sum(part, whole, offsets, "the reduce-scatter", backend);
  (*traffic_)[Collective::kReduceScatter] += bytes_to_share(offsets, rank_, whole.dtype());
  return std::make_unique<Done>();
}

std::unique_ptr<Pending> MpiCommunicator::start_all_gather(const Tensor& whole,
                                                           const Offsets& offsets,
                                                           backend::Backend& backend) {
  check_vector(whole, offsets, size_, "all-gather");
  (*traffic_)[Collective::kAllGather] += bytes_to_gather(offsets, rank_, whole.dtype());
  Staging staging = stage(backend);
  Requests requests = gather_shares(staging, whole, offsets, "the all-gather");
  return std::make_unique<PendingRequests>(std::move(requests), std::move(staging),
                                           std::vector<Tensor>{whole});
}

void MpiCommunicator::all_reduce_sum(std::vector<double>& values) {
  std::vector<double> all(values.size() * static_cast<std::size_t>(size_));
  Requests requests = start("the sum of numbers");
  check(MPI_Iallgather(values.data(), static_cast<int>(values.size()), MPI_DOUBLE, all.data(),
                       static_cast<int>(values.size()), MPI_DOUBLE, comm_, requests.add()),
        requests.operation());
  requests.wait();
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = 0;
    for (int rank = 0; rank < size_; ++rank) {
      values[i] += all[static_cast<std::size_t>(rank) * values.size() + i];
    }
  }
}

void MpiCommunicator::all_reduce_max(std::vector<double>& values) {
  Requests requests = start("the maximum of numbers");
  check(MPI_Iallreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_DOUBLE,
                       MPI_MAX, comm_, requests.add()),
        requests.operation());
  requests.wait();
}

void MpiCommunicator::broadcast(std::string& bytes, int root) {
  std::uint64_t count = bytes.size();
  Requests requests = start("the broadcast");
  check(MPI_Ibcast(&count, 1, MPI_UINT64_T, root, comm_, requests.add()), requests.operation());
  requests.wait();
  bytes.resize(count);
  for_each_part(reinterpret_cast<std::byte*>(bytes.data()), count, longest_message_,
                [&](auto* data, int part) {
                  check(MPI_Ibcast(data, part, MPI_BYTE, root, comm_, requests.add()),
                        requests.operation());
                  requests.wait();
                });
  if (rank_ == root) {
    (*traffic_)[Collective::kBroadcast] += count * static_cast<std::uint64_t>(size_ - 1);
  }
}

void MpiCommunicator::all_to_all(const Tensor& receive, const Offsets& receive_offsets,
                                 const Tensor& send, const Offsets& send_offsets,
                                 backend::Backend& backend) {
  check_vector(receive, receive_offsets, size_, "all-to-all");
  check_vector(send, send_offsets, size_, "all-to-all");
  Staging staging = stage(backend);
  Requests requests = start("the all-to-all");
  for_each_source([&](int peer) {
    post_receive(requests, staging.incoming(share(receive, receive_offsets, peer)), peer);
  });
  for_each_target([&](int peer) {
    post_send(requests, staging.outgoing(share(send, send_offsets, peer)), peer);
  });
  backend.copy(share(receive, receive_offsets, rank_), share(send, send_offsets, rank_));
  requests.wait();
  staging.deliver();
  (*traffic_)[Collective::kAllToAll] += bytes_to_share(send_offsets, rank_, send.dtype());
}

std::unique_ptr<Pending> MpiCommunicator::start_send_receive(const Tensor& receive, int from,
                                                             const Tensor& send, int to,
                                                             backend::Backend& backend) {
  check_neighbours(receive, from, send, to, rank_);
  Staging staging = stage(backend);
  Requests requests = start("an exchange with the neighbours");
  post_receive(requests, staging.incoming(receive), from);
  post_send(requests, staging.outgoing(send), to);
  if (to != rank_) (*traffic_)[Collective::kSendReceive] += send.bytes();
  return std::make_unique<PendingRequests>(std::move(requests), std::move(staging),
                                           std::vector<Tensor>{receive, send});
}

std::vector<std::string> MpiCommunicator::all_gather(const std::string& bytes) {
  std::vector<std::string> all(static_cast<std::size_t>(size_));
  all[static_cast<std::size_t>(rank_)] = bytes;
  for (int root = 0; root < size_; ++root) broadcast(all[static_cast<std::size_t>(root)], root);
  return all;
}

void MpiCommunicator::barrier() {
  Requests requests = start("the barrier");
  check(MPI_Ibarrier(comm_, requests.add()), requests.operation());
  requests.wait();
}

}  // namespace

std::unique_ptr<Communicator> make_world_communicator(std::size_t longest_message) {
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  if (!is_launched() && tasks != nullptr && std::atoi(tasks) > 1) {
    throw base::InputError(fmt::format(
        "srun started {} processes without telling them of each other; use srun --mpi=pmix",
        tasks));
  }
  if (!is_launched()) return make_single_communicator();
  return std::make_unique<MpiCommunicator>(longest_message);
}

std::unique_ptr<Communicator> make_world_communicator() {
  return make_world_communicator(kLongestMessage);
}

}  // namespace longspan::comm
