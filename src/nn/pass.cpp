#include "longspan/nn/pass.h"

#include <algorithm>

#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Index;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;

/// The way of a slot to the host and back.
struct Pass::Parked {
  Tensor host;
  std::unique_ptr<backend::Transfer> going;   ///< until the device's copy may be dropped
  std::unique_ptr<backend::Transfer> coming;  ///< until it may be used
};

Pass::Pass(backend::Backend& backend, base::DType dtype, backend::CuSeqlens cu_seqlens,
           Tensor positions, Keep keep, std::optional<SequenceShard> shard, backend::Backend* host)
    : backend_(&backend),
      dtype_(dtype),
      keep_(keep),
      cu_seqlens_(std::move(cu_seqlens)),
      positions_(std::move(positions)),
      shard_(std::move(shard)),
      host_(host) {
  if (cu_seqlens_.empty() || (shard_ && shard_->layout.tokens() != cu_seqlens_.back())) {
    throw base::InternalError("a pass needs cu_seqlens, at least {0}, that end with its row");
  }
  tokens_ =
      shard_ ? shard_->layout.size(shard_->mesh->sequence().rank()) : Index{cu_seqlens_.back()};
}

base::DType Pass::statistic_dtype() const {
  return dtype_ == base::DType::kFloat64 ? base::DType::kFloat64 : base::DType::kFloat32;
}

Tensor Pass::workspace(const Shape& shape) const {
  return backend_->allocate(shape, dtype_, MemoryTag::kWorkspace);
}

Tensor Pass::saved(const Shape& shape) const {
  const bool keeps = keep_ == Keep::kSlots;
  return backend_->allocate(shape, dtype_, keeps ? MemoryTag::kSaved : MemoryTag::kWorkspace);
}

Tensor Pass::workspace_statistics(const Shape& shape) const {
  return backend_->allocate(shape, statistic_dtype(), MemoryTag::kWorkspace);
}

Tensor Pass::saved_statistics(const Shape& shape) const {
  const bool keeps = keep_ == Keep::kSlots;
  return backend_->allocate(shape, statistic_dtype(),
                            keeps ? MemoryTag::kSaved : MemoryTag::kWorkspace);
}

/// A copy that an exception left under way must not outlive its memory.
Pass::~Pass() {
  for (const Slot& slot : slots_) {
    if (slot.parked && (slot.parked->going || slot.parked->coming)) backend_->synchronize();
  }
}
Pass::Pass(Pass&&) noexcept = default;

void Pass::push(Tensor slot) {
  if (keep_ == Keep::kSlots) slots_.push_back({std::move(slot), nullptr});
}

/// Null when none is parked.
Pass::Slot* Pass::last_parked() {
  const auto last =
      std::find_if(slots_.rbegin(), slots_.rend(), [](const Slot& slot) { return !!slot.parked; });
  return last == slots_.rend() ? nullptr : &*last;
}

void Pass::park(Tensor slot) {
  if (keep_ != Keep::kSlots) return;
  // The one before has had a layer's time to go.
  if (Slot* before = last_parked()) send_away(*before);
  slots_.push_back({std::move(slot), nullptr});
  if (host_ == nullptr || slots_.back().tensor.elements() == 0) return;
  Slot& parked = slots_.back();
  parked.parked = std::make_unique<Parked>();
  parked.parked->host =
      host_->allocate(parked.tensor.shape(), parked.tensor.dtype(), MemoryTag::kSaved);
  parked.parked->going = backend_->start_download(parked.parked->host, parked.tensor);
}

/// The device's copy is dropped once it is on the host.
void Pass::send_away(Slot& slot) const {
  if (!slot.parked->going) return;
  slot.parked->going->wait();
  slot.parked->going.reset();
  slot.tensor = {};
}

void Pass::bring_back(Slot& slot) const {
  if (slot.tensor.defined() || slot.parked->coming) return;
  const Tensor& host = slot.parked->host;
  slot.tensor = backend_->allocate(host.shape(), host.dtype(), MemoryTag::kSaved);
  slot.parked->coming = backend_->start_upload(slot.tensor, host);
}

Tensor Pass::pop() {
  if (slots_.empty()) {
    throw base::InternalError("a backward asked for a slot, and the pass holds none");
  }
  Slot slot = std::move(slots_.back());
  slots_.pop_back();
  if (!slot.parked) return std::move(slot.tensor);
  bring_back(slot);
  Parked& parked = *slot.parked;
  for (auto* transfer : {&parked.going, &parked.coming}) {
    if (*transfer) (*transfer)->wait();
  }
  if (Slot* next = last_parked()) bring_back(*next);
  return std::move(slot.tensor);
}

}  // namespace longspan::nn
