#include "comm/cuda/nccl_communicator.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "comm/done.h"
#include "comm/group.h"
#include "comm/reduce_scatter.h"
#include "comm/shares.h"
#include "longspan/base/error.h"

namespace longspan::comm {

using backend::Tensor;

namespace {

ncclDataType_t type_of_sum(const Tensor& tensor) {
  if (tensor.dtype() == base::DType::kFloat32) return ncclFloat32;
  if (tensor.dtype() == base::DType::kFloat64) return ncclFloat64;
  throw base::InternalError("NCCL sums float32 and float64 only");
}

/// Whether NCCL's own collectives do, which know equal shares only.
bool are_even(const Offsets& offsets) {
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    if (offsets[i + 1] - offsets[i] != offsets[1]) return false;
  }
  return true;
}

std::size_t count_of(const Tensor& tensor) { return static_cast<std::size_t>(tensor.elements()); }

// Nothing is posted for no bytes: both ends know.
void post_send(const Tensor& tensor, int to, ncclComm_t comm, cudaStream_t stream) {
  if (tensor.bytes() == 0) return;
  check(ncclSend(tensor.raw(), tensor.bytes(), ncclInt8, to, comm, stream), "ncclSend");
}

void post_receive(const Tensor& tensor, int from, ncclComm_t comm, cudaStream_t stream) {
  if (tensor.bytes() == 0) return;
  check(ncclRecv(tensor.raw(), tensor.bytes(), ncclInt8, from, comm, stream), "ncclRecv");
}

/// Tensors of a backend of the processor are `host`'s affair.
bool is_on_device(const backend::Backend& backend) { return backend.streams() != nullptr; }

cudaStream_t compute_of(backend::Backend& backend) {
  return static_cast<cudaStream_t>(backend.streams()->compute());
}

/// The compute stream is held when this is waited for or goes; memory of its tensors is given out
/// again in that stream's order.
class PendingWork : public Pending {
 public:
  PendingWork(std::shared_ptr<NcclWork> work, cudaStream_t compute, std::vector<Tensor> tensors)
      : work_(std::move(work)), compute_(compute), tensors_(std::move(tensors)) {}
  ~PendingWork() override {
    if (work_) work_->done.hold(compute_);
  }
  void wait() override {
    check_for_failure();
    const auto work = std::exchange(work_, nullptr);
    backend::cuda::check(work->done.hold(compute_), "cudaStreamWaitEvent");
  }

 private:
  std::shared_ptr<NcclWork> work_;
  cudaStream_t compute_;
  std::vector<Tensor> tensors_;
};

}  // namespace

NcclCommunicator::NcclCommunicator(std::unique_ptr<Communicator> host, std::string description,
                                   int world_rank)
    : host_(std::move(host)), description_(std::move(description)), world_rank_(world_rank) {
  traffic_ = traffic_of(*host_);
}

NcclCommunicator::~NcclCommunicator() {
  if (group_) NcclWatch::of_process().retire();
}

void NcclCommunicator::meet(backend::Backend& backend) {
  if (group_ || size() == 1) return;
  group_ =
      NcclWatch::of_process().meet(*host_, description_, world_rank_, backend.streams()->device());
}

/// For what is no tensor.
Communicator& NcclCommunicator::host() const {
  check_for_failure();
  return *host_;
}

std::shared_ptr<NcclWork> NcclCommunicator::issue(const char* operation, backend::Backend& backend,
                                                  const Post& post) {
  check_for_failure();
  meet(backend);
  auto* const stream = static_cast<cudaStream_t>(backend.streams()->communication());
  const auto work = NcclWatch::of_process().begin({operation, description_, world_rank_});
  work->ready.record(compute_of(backend));
  backend::cuda::check(work->ready.hold(stream), "cudaStreamWaitEvent");
  group_->issue(work->subject, [&](ncclComm_t comm) { post(comm, stream); });
  work->done.record(stream);
  work->issued = true;
  return work;
}

std::unique_ptr<Pending> NcclCommunicator::start(const char* operation, backend::Backend& backend,
                                                 std::vector<Tensor> tensors, const Post& post) {
  return std::make_unique<PendingWork>(issue(operation, backend, post), compute_of(backend),
                                       std::move(tensors));
}

std::unique_ptr<Pending> NcclCommunicator::start_all_reduce_sum(const Tensor& tensor,
                                                                backend::Backend& backend) {
  if (!is_on_device(backend)) return host().start_all_reduce_sum(tensor, backend);
  const Offsets offsets = even_offsets(tensor.elements(), size());
  check_vector(tensor, offsets, size(), "all-reduce");
  if (size() == 1 || tensor.elements() == 0) return std::make_unique<Done>();
  (*traffic_)[Collective::kAllReduce] += bytes_to_share(offsets, rank(), tensor.dtype()) +
                                         bytes_to_gather(offsets, rank(), tensor.dtype());
  return start("the all-reduce", backend, {tensor}, [&](ncclComm_t comm, cudaStream_t stream) {
    check(ncclAllReduce(tensor.raw(), tensor.raw(), count_of(tensor), type_of_sum(tensor), ncclSum,
                        comm, stream),
          "ncclAllReduce");
  });
}

std::unique_ptr<Pending> NcclCommunicator::start_reduce_scatter_sum(const Tensor& part,
                                                                    const Tensor& whole,
                                                                    const Offsets& offsets,
                                                                    backend::Backend& backend) {
  if (!is_on_device(backend)) return host().start_reduce_scatter_sum(part, whole, offsets, backend);
  check_vector(whole, offsets, size(), "reduce-scatter");
  check_part(part, offsets, rank());
  if (size() == 1) {
    if (part.raw() != whole.raw()) backend.copy(part, whole);
    return std::make_unique<Done>();
  }
  if (whole.elements() == 0) return std::make_unique<Done>();
  (*traffic_)[Collective::kReduceScatter] += bytes_to_share(offsets, rank(), whole.dtype());
  const auto post = [&](ncclComm_t comm, cudaStream_t stream) {
    const ncclDataType_t type = type_of_sum(whole);
    if (are_even(offsets)) {
      check(ncclReduceScatter(whole.raw(), part.raw(), count_of(part), type, ncclSum, comm, stream),
            "ncclReduceScatter");
      return;
    }
    for (int root = 0; root < size(); ++root) {
      const Tensor in = share(whole, offsets, root);
      if (in.elements() == 0) continue;
      void* const out = root == rank() ? part.raw() : nullptr;
      check(ncclReduce(in.raw(), out, count_of(in), type, ncclSum, root, comm, stream),
            "ncclReduce");
    }
  };
  return start("the reduce-scatter", backend, {part, whole}, post);
}

std::unique_ptr<Pending> NcclCommunicator::start_all_gather(const Tensor& whole,
                                                            const Offsets& offsets,
                                                            backend::Backend& backend) {
  if (!is_on_device(backend)) return host().start_all_gather(whole, offsets, backend);
  check_vector(whole, offsets, size(), "all-gather");
  if (size() == 1 || whole.elements() == 0) return std::make_unique<Done>();
  (*traffic_)[Collective::kAllGather] += bytes_to_gather(offsets, rank(), whole.dtype());
  return start("the all-gather", backend, {whole}, [&](ncclComm_t comm, cudaStream_t stream) {
    if (are_even(offsets)) {
      const Tensor own = share(whole, offsets, rank());
      check(ncclAllGather(own.raw(), whole.raw(), own.bytes(), ncclInt8, comm, stream),
            "ncclAllGather");
      return;
    }
    for (int root = 0; root < size(); ++root) {
      const Tensor part = share(whole, offsets, root);
      if (part.elements() == 0) continue;
      check(ncclBroadcast(part.raw(), part.raw(), part.bytes(), ncclInt8, root, comm, stream),
            "ncclBroadcast");
    }
  });
}

void NcclCommunicator::all_to_all(const Tensor& receive, const Offsets& receive_offsets,
                                  const Tensor& send, const Offsets& send_offsets,
                                  backend::Backend& backend) {
  if (!is_on_device(backend))
    return host().all_to_all(receive, receive_offsets, send, send_offsets, backend);
  check_vector(receive, receive_offsets, size(), "all-to-all");
  check_vector(send, send_offsets, size(), "all-to-all");
  meet(backend);  // also a rank that has nothing to send
  const Tensor in = share(receive, receive_offsets, rank());
  const Tensor out = share(send, send_offsets, rank());
  // A rank that neither sends nor receives is missed by nobody.
  const bool has_peers = send.elements() > out.elements() || receive.elements() > in.elements();
  std::shared_ptr<NcclWork> work;
  if (has_peers) {
    work = issue("the all-to-all", backend, [&](ncclComm_t comm, cudaStream_t stream) {
      for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank()) continue;
        post_send(share(send, send_offsets, peer), peer, comm, stream);
        post_receive(share(receive, receive_offsets, peer), peer, comm, stream);
      }
    });
  }
  backend.copy(in, out);  // meanwhile
  if (work) backend::cuda::check(work->done.hold(compute_of(backend)), "cudaStreamWaitEvent");
  (*traffic_)[Collective::kAllToAll] += bytes_to_share(send_offsets, rank(), send.dtype());
}

std::unique_ptr<Pending> NcclCommunicator::start_send_receive(const Tensor& receive, int from,
                                                              const Tensor& send, int to,
                                                              backend::Backend& backend) {
  if (!is_on_device(backend)) return host().start_send_receive(receive, from, send, to, backend);
  check_neighbours(receive, from, send, to, rank());
  meet(backend);  // also a rank that has nothing to send
  if (to == rank()) {
    backend.copy(receive, send);
    return std::make_unique<Done>();
  }
  (*traffic_)[Collective::kSendReceive] += send.bytes();
  if (send.bytes() == 0 && receive.bytes() == 0) return std::make_unique<Done>();
  return start("an exchange with the neighbours", backend, {receive, send},
               [&](ncclComm_t comm, cudaStream_t stream) {
                 post_send(send, to, comm, stream);
                 post_receive(receive, from, comm, stream);
               });
}

void NcclCommunicator::all_reduce_sum(std::vector<double>& values) {
  host().all_reduce_sum(values);
}
void NcclCommunicator::all_reduce_max(std::vector<double>& values) {
  host().all_reduce_max(values);
}
void NcclCommunicator::broadcast(std::string& bytes, int root) { host().broadcast(bytes, root); }
std::vector<std::string> NcclCommunicator::all_gather(const std::string& bytes) {
  return host().all_gather(bytes);
}
void NcclCommunicator::barrier() { host().barrier(); }

std::unique_ptr<Communicator> NcclCommunicator::group(const std::string& name,
                                                      const std::vector<int>& members) {
  return std::make_unique<NcclCommunicator>(host().group(name, members),
                                            describe_group(name, members), world_rank_);
}

}  // namespace longspan::comm
