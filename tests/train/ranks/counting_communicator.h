#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "longspan/comm/communicator.h"

namespace longspan::test {

/// Hands everything on to another communicator, and notes the tensors that were gathered and
/// reduced: their elements and where in the step the backend was.
class CountingCommunicator : public comm::Communicator {
 public:
  struct Call {
    backend::Index elements = 0;
    std::string place;
  };

  explicit CountingCommunicator(comm::Communicator& inner) : inner_(&inner) {}

  const std::vector<Call>& gathers() const { return gathers_; }
  const std::vector<Call>& reductions() const { return reductions_; }
  void forget() {
    gathers_.clear();
    reductions_.clear();
  }

  std::string name() const override { return inner_->name(); }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  int local_rank() const override { return inner_->local_rank(); }
  int local_size() const override { return inner_->local_size(); }
  std::unique_ptr<comm::Pending> start_all_reduce_sum(const backend::Tensor& tensor,
                                                      backend::Backend& backend) override {
    reductions_.push_back({tensor.elements(), backend.ledger().place().to_string()});
    return inner_->start_all_reduce_sum(tensor, backend);
  }
  void all_reduce_sum(std::vector<double>& values) override { inner_->all_reduce_sum(values); }
  void all_reduce_max(std::vector<double>& values) override { inner_->all_reduce_max(values); }
  void broadcast(std::string& bytes, int root) override { inner_->broadcast(bytes, root); }
  std::unique_ptr<comm::Pending> start_reduce_scatter_sum(const backend::Tensor& part,
                                                          const backend::Tensor& whole,
                                                          const comm::Offsets& offsets,
                                                          backend::Backend& backend) override {
    reductions_.push_back({whole.elements(), backend.ledger().place().to_string()});
    return inner_->start_reduce_scatter_sum(part, whole, offsets, backend);
  }
  std::unique_ptr<comm::Pending> start_all_gather(const backend::Tensor& whole,
                                                  const comm::Offsets& offsets,
                                                  backend::Backend& backend) override {
    gathers_.push_back({whole.elements(), backend.ledger().place().to_string()});
    return inner_->start_all_gather(whole, offsets, backend);
  }
  void all_to_all(const backend::Tensor& receive, const comm::Offsets& receive_offsets,
                  const backend::Tensor& send, const comm::Offsets& send_offsets,
                  backend::Backend& backend) override {
    inner_->all_to_all(receive, receive_offsets, send, send_offsets, backend);
  }
  std::unique_ptr<comm::Pending> start_send_receive(const backend::Tensor& receive, int from,
                                                    const backend::Tensor& send, int to,
                                                    backend::Backend& backend) override {
    return inner_->start_send_receive(receive, from, send, to, backend);
  }
  std::vector<std::string> all_gather(const std::string& bytes) override {
    return inner_->all_gather(bytes);
  }
  void barrier() override { inner_->barrier(); }
  std::unique_ptr<comm::Communicator> group(const std::string& name,
                                            const std::vector<int>& members) override {
    return inner_->group(name, members);
  }

 private:
  comm::Communicator* inner_;
  std::vector<Call> gathers_;
  std::vector<Call> reductions_;
};

}  // namespace longspan::test
