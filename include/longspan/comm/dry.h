#pragma once

#include "longspan/backend/dry.h"
#include "longspan/comm/communicator.h"

namespace longspan::comm {

/// One rank of a world of any size, with no other rank: every collective returns this rank's own
/// numbers, takes the memory and counts the bytes that the real one would, and adds its time to the
/// dry backend's, by the device's links: all of it, or, of what is started on an asynchronous
/// device, what is left when it is waited for.
class DryCommunicator : public Communicator {
 public:
  /// The backend must outlive this. Ranks fill machines of the profile's devices_per_node.
  /// `share_devices`: ranks share a GPU, so that tensors travel by MPI, which sums them in a
  /// staging buffer there as it does on processors.
  DryCommunicator(int rank, int size, backend::DryBackend& backend, bool share_devices = false);

  std::string name() const override { return "dry"; }
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(world_ranks_.size()); }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }

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
  /// Member `rank` of a group that has these ranks of the world.
  DryCommunicator(int rank, std::vector<int> world_ranks, backend::DryBackend& backend,
                  bool goes_by_mpi);
  class Sending;
  /// Begins to send so much.
  std::unique_ptr<Pending> start(double bytes, double messages);
  /// The same, counted.
  std::unique_ptr<Pending> start(Collective kind, std::uint64_t bytes, double messages);
  backend::Tensor staging(const Offsets& offsets, base::DType dtype);

  int rank_;
  std::vector<int> world_ranks_;
  int local_rank_ = 0;
  int local_size_ = 0;
  bool goes_by_mpi_;
  backend::DryBackend* backend_;
};

}  // namespace longspan::comm
