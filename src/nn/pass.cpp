#include "longspan/nn/pass.h"

#include <utility>

#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Index;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;

namespace {

/// Numbers of streams of a block: more than SlotKind has.
constexpr std::uint64_t kSlotStreams = 16;

}  // namespace

SequenceShard::SequenceShard(const shard::Mesh* mesh, shard::TokenLayout row)
    : layout(std::move(row)) {
  if (layout.degrees().ulysses > 1) ulysses = &mesh->ulysses();
  if (layout.degrees().ring > 1) ring = &mesh->ring();
}

SequenceShard::SequenceShard(comm::Communicator& group, shard::TokenLayout row)
    : layout(std::move(row)) {
  const shard::SequenceDegrees& degrees = layout.degrees();
  if (degrees.ranks() != group.size() || (degrees.ulysses > 1 && degrees.ring > 1)) {
    throw base::InternalError("a group that shares a row is not of its layout");
  }
  if (degrees.ulysses > 1) ulysses = &group;
  if (degrees.ring > 1) ring = &group;
}

int SequenceShard::rank() const {
  return place() * layout.degrees().ulysses + (ulysses == nullptr ? 0 : ulysses->rank());
}

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
  tokens_ = shard_ ? shard_->layout.size(shard_->rank()) : Index{cu_seqlens_.back()};
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

Pass::~Pass() = default;
Pass::Pass(Pass&&) noexcept = default;

void Pass::push(Tensor slot) {
  if (keep_ == Keep::kSlots) slots_.push_back({std::move(slot), std::nullopt, block_});
}

void Pass::push(Tensor slot, const SaveParts& parts, const SlotRow& row) {
  if (parts.is_full()) return push(std::move(slot));
  if (keep_ != Keep::kSlots) return;
  if (parts.has_host()) send_away_others();
  const auto rounding = rounding_of(slot, parts, row);
  slots_.push_back({{}, SavedRows(slot, parts, row, rounding, *backend_, host_), block_});
}

std::optional<backend::CodeRounding> Pass::rounding_of(const Tensor& slot, const SaveParts& parts,
                                                       const SlotRow& row) const {
  if (!parts.rounds_at_random() || slot.elements() == 0) return std::nullopt;
  if (!draws_) {
    throw base::InternalError("a slot is rounded at random in a pass that has no draws");
  }
  const bool is_exchanged = !row.columns.empty();
  return backend::CodeRounding{
      .numbers = is_exchanged ? draws_->exchanged_numbers : draws_->numbers,
      .stream = {draws_->seed, base::Purpose::kCodeRounding, draws_->step,
                 static_cast<std::uint64_t>(block_) * kSlotStreams +
                     static_cast<std::uint64_t>(row.kind)},
      .columns = is_exchanged ? row.whole : slot.elements() / slot.size(0)};
}

void Pass::start_block() {
  send_away_others();
  ++block_;
}

/// Of the block before, which have had a block's time to go.
void Pass::send_away_others() {
  for (auto slot = slots_.rbegin(); slot != slots_.rend() && slot->block >= block_ - 1; ++slot) {
    if (slot->saved && slot->block < block_) slot->saved->leave();
  }
}

void Pass::bring_back(int block) {
  for (auto slot = slots_.rbegin(); slot != slots_.rend() && slot->block >= block; ++slot) {
    if (slot->saved) slot->saved->come();
  }
}

Tensor Pass::pop() {
  Incomplete slot = pop_incomplete();
  if (!slot.missing.empty()) {
    throw base::InternalError("rows of a slot are to be made again by a layer that does not");
  }
  return std::move(slot.tensor);
}

Pass::Incomplete Pass::pop_incomplete() {
  if (slots_.empty()) {
    throw base::InternalError("a backward asked for a slot, and the pass holds none");
  }
  Slot slot = std::move(slots_.back());
  slots_.pop_back();
  Incomplete result{std::move(slot.tensor), {}};
  if (slot.saved) result = {slot.saved->take(), slot.saved->missing()};
  bring_back(slot.block - 1);
  return result;
}

}  // namespace longspan::nn
