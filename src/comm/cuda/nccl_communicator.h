#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/cuda/nccl_watch.h"
#include "longspan/comm/communicator.h"

namespace longspan::comm {

/// Tensors of GPUs go by NCCL on the communication stream, which waits for what the compute stream
/// was given before; the compute stream waits for the operation at once, or in Pending::wait, and
/// the host for neither. Everything else goes by `host`.
///
/// NCCL's communicator of a group is made by the group's first operation on tensors, from an
/// identifier that `host` brings to all: most groups of a mesh never need one, each takes memory of
/// the GPU, and unlike ncclCommSplit it leaves alone what is under way in the parent.
class NcclCommunicator : public Communicator {
 public:
  /// `description` as messages call it: "the world".
  NcclCommunicator(std::unique_ptr<Communicator> host, std::string description, int world_rank);
  ~NcclCommunicator() override;

  /// The GPUs meet now and not with the first operation.
  void meet(backend::Backend& backend);

  std::string name() const override { return "nccl"; }
  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  int local_rank() const override { return host_->local_rank(); }
  int local_size() const override { return host_->local_size(); }

  std::unique_ptr<Pending> start_all_reduce_sum(const backend::Tensor& tensor,
                                                backend::Backend& backend) override;
  void all_reduce_sum(std::vector<double>& values) override;
  void all_reduce_max(std::vector<double>& values) override;
  void broadcast(std::string& bytes, int root) override;
  std::unique_ptr<Pending> start_reduce_scatter_sum(const backend::Tensor& part,
                                                    const backend::Tensor& whole,
                                                    const Offsets& offsets,
                                                    backend::Backend& backend) override;
  std::unique_ptr<Pending> start_all_gather(const backend::Tensor& whole, const Offsets& offsets,
                                            backend::Backend& backend) override;
  void all_to_all(const backend::Tensor& receive, const Offsets& receive_offsets,
                  const backend::Tensor& send, const Offsets& send_offsets,
                  backend::Backend& backend) override;
  std::unique_ptr<Pending> start_send_receive(const backend::Tensor& receive, int from,
                                              const backend::Tensor& send, int to,
                                              backend::Backend& backend) override;
  std::vector<std::string> all_gather(const std::string& bytes) override;
  void barrier() override;
  std::unique_ptr<Communicator> group(const std::string& name,
                                      const std::vector<int>& members) override;

 private:
  using Post = std::function<void(ncclComm_t, cudaStream_t)>;

  /// Begins an operation: `post` calls NCCL's, as one group.
  std::shared_ptr<NcclWork> issue(const char* operation, backend::Backend& backend,
                                  const Post& post);
  /// The same, to be waited for; these tensors live until then.
  std::unique_ptr<Pending> start(const char* operation, backend::Backend& backend,
                                 std::vector<backend::Tensor> tensors, const Post& post);
  Communicator& host() const;

  std::unique_ptr<Communicator> host_;
  std::string description_;
  int world_rank_;
  std::shared_ptr<NcclGroup> group_;  // null until it is needed
};

}  // namespace longspan::comm
