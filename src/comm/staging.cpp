#include "comm/staging.h"

#include <algorithm>

namespace longspan::comm {

using backend::Tensor;

/// Gives its block back with the last tensor of it; the list may outlive the HostBuffers.
class HostBuffers::Lease : public backend::Buffer {
 public:
  Lease(std::shared_ptr<Free> free, Block block)
      : free_(std::move(free)), block_(std::move(block)) {}
  ~Lease() override { free_->push_back(std::move(block_)); }
  void* data() const { return block_.memory.get(); }

 private:
  std::shared_ptr<Free> free_;
  Block block_;
};

Tensor HostBuffers::like(const Tensor& vector) {
  const std::size_t bytes = vector.bytes();
  // The smallest that is large enough; else the largest grows, so that few are kept.
  const auto fits = [&](const Block& block) { return block.bytes >= bytes; };
  const auto is_better = [&](const Block& a, const Block& b) {
    if (fits(a) != fits(b)) return fits(a);
    return fits(a) ? a.bytes < b.bytes : a.bytes > b.bytes;
  };
  Block block;
  const auto best = std::min_element(free_->begin(), free_->end(), is_better);
  if (best != free_->end()) {
    block = std::move(*best);
    free_->erase(best);
  }
  if (!fits(block)) {
    block = {};  // the old one goes first
    block = {std::make_unique_for_overwrite<std::byte[]>(bytes), bytes};
  }
  auto lease = std::make_shared<Lease>(free_, std::move(block));
  void* data = lease->data();
  return {std::move(lease), data, vector.dtype(), {vector.elements()}};
}

Tensor Staging::outgoing(const Tensor& vector) {
  if (!is_device_ || vector.bytes() == 0) return vector;
  const Tensor host = buffers_->like(vector);
  backend_->copy_to_host(host.raw(), vector, vector.bytes());
  sent_.push_back(host);
  return host;
}

Tensor Staging::incoming(const Tensor& vector) {
  if (!is_device_ || vector.bytes() == 0) return vector;
  const Tensor host = buffers_->like(vector);
  coming_.emplace_back(vector, host);
  return host;
}

void Staging::deliver() {
  for (const auto& [tensor, host] : coming_) {
    backend_->copy_from_host(tensor, host.raw(), host.bytes());
  }
  coming_.clear();
}

}  // namespace longspan::comm
