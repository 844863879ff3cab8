#include "comm/done.h"
#include "comm/group.h"
#include "longspan/comm/communicator.h"

namespace longspan::comm {
namespace {

class SingleCommunicator : public Communicator {
 public:
  std::string name() const override { return "single"; }
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }

  std::unique_ptr<Pending> start_all_reduce_sum(const backend::Tensor& /*tensor*/,
                                                backend::Backend& /*backend*/) override {
    return std::make_unique<Done>();
  }
  void all_reduce_sum(std::vector<double>& /*values*/) override {}
  void all_reduce_max(std::vector<double>& /*values*/) override {}
  void broadcast(std::string& /*bytes*/, int /*root*/) override {}
  std::unique_ptr<Pending> start_reduce_scatter_sum(const backend::Tensor& part,
                                                    const backend::Tensor& whole,
                                                    const Offsets& /*offsets*/,
                                                    backend::Backend& backend) override {
    if (part.raw() != whole.raw()) backend.copy(part, whole);
    return std::make_unique<Done>();
  }
  std::unique_ptr<Pending> start_all_gather(const backend::Tensor& /*whole*/,
                                            const Offsets& /*offsets*/,
                                            backend::Backend& /*backend*/) override {
    return std::make_unique<Done>();
  }
  void all_to_all(const backend::Tensor& receive, const Offsets& /*receive_offsets*/,
                  const backend::Tensor& send, const Offsets& /*send_offsets*/,
                  backend::Backend& backend) override {
    backend.copy(receive, send);
  }
  std::unique_ptr<Pending> start_send_receive(const backend::Tensor& receive, int /*from*/,
                                              const backend::Tensor& send, int /*to*/,
                                              backend::Backend& backend) override {
    backend.copy(receive, send);
    return std::make_unique<Done>();
  }
  std::vector<std::string> all_gather(const std::string& bytes) override { return {bytes}; }
  void barrier() override {}
  std::unique_ptr<Communicator> group(const std::string& /*name*/,
                                      const std::vector<int>& members) override {
    position_in(members, 0, 1);
    return make_single_communicator();
  }
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() {
  return std::make_unique<SingleCommunicator>();
}

}  // namespace longspan::comm
