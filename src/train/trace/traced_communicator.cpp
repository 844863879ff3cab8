#include "train/trace/traced_communicator.h"

#include <utility>

namespace longspan::train {
namespace {

using backend::Tensor;
using comm::Collective;
using comm::Communicator;
using comm::Offsets;
using comm::Pending;

/// Of which the host waits for the end.
class TracedPending : public Pending {
 public:
  TracedPending(std::unique_ptr<Pending> inner, Recorder& recorder, Recorder::Span span)
      : inner_(std::move(inner)), recorder_(&recorder), span_(span) {}
  void wait() override {
    inner_->wait();
    recorder_->end(span_);
  }

 private:
  std::unique_ptr<Pending> inner_;
  Recorder* recorder_;
  Recorder::Span span_;
};

class TracedCommunicator : public Communicator {
 public:
  /// `owned` is null, or `inner` itself.
  TracedCommunicator(std::unique_ptr<Communicator> owned, Communicator& inner, std::string group,
                     Recorder& recorder)
      : owned_(std::move(owned)),
        inner_(&inner),
        group_(std::move(group)),
        recorder_(&recorder),
        goes_by_queue_(inner.name() == "nccl") {
    traffic_ = traffic_of(inner);
  }

  std::string name() const override { return inner_->name(); }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  int local_rank() const override { return inner_->local_rank(); }
  int local_size() const override { return inner_->local_size(); }

  std::unique_ptr<Pending> start_all_reduce_sum(const Tensor& tensor,
                                                backend::Backend& backend) override {
    return start(backend, of(name_of(Collective::kAllReduce), tensor),
                 [&] { return inner_->start_all_reduce_sum(tensor, backend); });
  }
  void all_reduce_sum(std::vector<double>& values) override {
    run(row_of_numbers(), of("all_reduce of numbers", sizeof(double) * values.size()),
        [&] { inner_->all_reduce_sum(values); });
  }
  void all_reduce_max(std::vector<double>& values) override {
    run(row_of_numbers(), of("all_reduce_max of numbers", sizeof(double) * values.size()),
        [&] { inner_->all_reduce_max(values); });
  }
  void broadcast(std::string& bytes, int root) override {
    run(row_of_numbers(), of("broadcast of bytes", bytes.size()),
        [&] { inner_->broadcast(bytes, root); });
  }
  std::unique_ptr<Pending> start_reduce_scatter_sum(const Tensor& part, const Tensor& whole,
                                                    const Offsets& offsets,
                                                    backend::Backend& backend) override {
    return start(backend, of(name_of(Collective::kReduceScatter), whole),
                 [&] { return inner_->start_reduce_scatter_sum(part, whole, offsets, backend); });
  }
  std::unique_ptr<Pending> start_all_gather(const Tensor& whole, const Offsets& offsets,
                                            backend::Backend& backend) override {
    return start(backend, of(name_of(Collective::kAllGather), whole),
                 [&] { return inner_->start_all_gather(whole, offsets, backend); });
  }
  void all_to_all(const Tensor& receive, const Offsets& receive_offsets, const Tensor& send,
                  const Offsets& send_offsets, backend::Backend& backend) override {
    run(row_of(backend), of(name_of(Collective::kAllToAll), send),
        [&] { inner_->all_to_all(receive, receive_offsets, send, send_offsets, backend); });
  }
  std::unique_ptr<Pending> start_send_receive(const Tensor& receive, int from, const Tensor& send,
                                              int to, backend::Backend& backend) override {
    return start(backend, of(name_of(Collective::kSendReceive), send),
                 [&] { return inner_->start_send_receive(receive, from, send, to, backend); });
  }
  std::vector<std::string> all_gather(const std::string& bytes) override {
    std::vector<std::string> all;
    run(row_of_numbers(), of("all_gather of bytes", bytes.size()),
        [&] { all = inner_->all_gather(bytes); });
    return all;
  }
  void barrier() override {
    run(row_of_numbers(), of("barrier", 0), [&] { inner_->barrier(); });
  }
  std::unique_ptr<Communicator> group(const std::string& name,
                                      const std::vector<int>& members) override {
    auto made = inner_->group(name, members);
    Communicator& inner = *made;
    return std::make_unique<TracedCommunicator>(std::move(made), inner, name, *recorder_);
  }

 private:
  Details of(const char* name, std::uint64_t bytes) const {
    Details details;
    details.name = name;
    details.bytes = bytes;
    details.group = group_;
    details.ranks = size();
    return details;
  }
  Details of(const char* name, const Tensor& tensor) const {
    Details details = of(name, tensor.bytes());
    details.has_tensor = true;
    details.dtype = tensor.dtype();
    details.shape = tensor.shape();
    return details;
  }

  bool is_recorded() const { return recorder_->is_recording() && size() > 1; }
  /// What lies in the host's memory travels while the host waits.
  Row row_of_numbers() const { return recorder_->row_of_host(Row::kCommunication); }
  Row row_of(const backend::Backend& backend) const {
    return backend.streams() == nullptr ? row_of_numbers() : Row::kCommunication;
  }

  template <typename Work>
  void run(Row row, Details details, const Work& work) {
    if (!is_recorded()) return work();
    const Recorder::Span span = recorder_->begin(row, std::move(details));
    work();
    recorder_->end(span);
  }

  /// On a device's queue its end is where the queue is then; else it is when `wait` returns.
  template <typename Work>
  std::unique_ptr<Pending> start(const backend::Backend& backend, Details details,
                                 const Work& work) {
    if (!is_recorded()) return work();
    const Recorder::Span span = recorder_->begin(row_of(backend), std::move(details));
    std::unique_ptr<Pending> pending = work();
    if (!goes_by_queue_ || backend.streams() == nullptr) {
      return std::make_unique<TracedPending>(std::move(pending), *recorder_, span);
    }
    recorder_->end(span);
    return pending;
  }

  std::unique_ptr<Communicator> owned_;
  Communicator* inner_;
  std::string group_;
  Recorder* recorder_;
  bool goes_by_queue_;
};

}  // namespace

std::unique_ptr<Communicator> make_traced_communicator(Communicator& world, Recorder& recorder) {
  return std::make_unique<TracedCommunicator>(nullptr, world, "world", recorder);
}

}  // namespace longspan::train
