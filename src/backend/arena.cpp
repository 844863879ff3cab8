#include "backend/arena.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <numeric>

#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::backend {
namespace {

/// A block of the arena; the arena outlives it through the shared pointer.
class ArenaBuffer : public Buffer {
 public:
  ArenaBuffer(std::shared_ptr<Arena> arena, void* address, std::size_t bytes, MemoryTag tag)
      : arena_(std::move(arena)), address_(address), bytes_(bytes), tag_(tag) {}
  ~ArenaBuffer() override { arena_->release(address_, bytes_, tag_); }

 private:
  std::shared_ptr<Arena> arena_;
  void* address_;
  std::size_t bytes_;
  MemoryTag tag_;
};

}  // namespace

Arena::Arena(std::unique_ptr<AddressRange> range, std::size_t limit, std::size_t alignment)
    : range_(std::move(range)), limit_(limit), alignment_(alignment) {}

std::size_t Arena::rounded(std::size_t bytes, std::size_t alignment) {
  return std::max(bytes + alignment - 1, alignment) / alignment * alignment;
}

void Arena::refuse(std::size_t bytes, MemoryTag tag) const {
  const std::size_t gaps =
      std::accumulate(free_by_offset_.begin(), free_by_offset_.end(), std::size_t{0},
                      [](std::size_t sum, const auto& block) { return sum + block.second; });
  const bool is_split = ledger_.live_total() + bytes <= limit_;
  throw base::OutOfMemoryError(fmt::format(
      "out of memory in {}: {} more for {} with {} live{}, and memory.limit is {}\n{}",
      ledger_.place().depth() == 0 ? "the set-up" : ledger_.place().to_string(),
      base::format_bytes(bytes), name_of(tag), base::format_bytes(ledger_.live_total()),
      is_split
          ? fmt::format(" and {} in gaps between them that are too short", base::format_bytes(gaps))
          : "",
      base::format_bytes(limit_), ledger_.to_string()));
}

/// Takes a free place for so many bytes: its offset.
std::size_t Arena::place(std::size_t bytes, MemoryTag tag) {
  const auto fit = free_by_size_.lower_bound({bytes, 0});
  if (fit != free_by_size_.end()) {
    const auto [block_bytes, offset] = *fit;
    erase_free(free_by_offset_.find(offset));
    if (block_bytes > bytes) insert_free(offset + bytes, block_bytes - bytes);
    return offset;
  }
  if (range_->bytes() - used_end_ < bytes) refuse(bytes, tag);
  const std::size_t offset = used_end_;
  used_end_ += bytes;
  footprint_ = std::max(footprint_, used_end_);
  return offset;
}

void* Arena::allocate(std::size_t bytes, MemoryTag tag) {
  const std::size_t wanted = rounded(bytes, alignment_);
  if (ledger_.live_total() + wanted > limit_) refuse(wanted, tag);
  const std::size_t offset = place(wanted, tag);
  ledger_.add(tag, wanted);
  return range_->begin() + offset;
}

void Arena::release(void* address, std::size_t bytes, MemoryTag tag) {
  auto offset = static_cast<std::size_t>(static_cast<std::byte*>(address) - range_->begin());
  std::size_t size = rounded(bytes, alignment_);
  ledger_.remove(tag, size);
  const auto next = free_by_offset_.lower_bound(offset);
  if (next != free_by_offset_.end() && offset + size == next->first) {
    size += next->second;
    erase_free(next);
  }
  const auto after = free_by_offset_.lower_bound(offset);
  if (after != free_by_offset_.begin()) {
    const auto previous = std::prev(after);
    if (previous->first + previous->second == offset) {
      offset = previous->first;
      size += previous->second;
      erase_free(previous);
    }
  }
  if (offset + size == used_end_) {
    used_end_ = offset;
  } else {
    insert_free(offset, size);
  }
}

void Arena::insert_free(std::size_t offset, std::size_t bytes) {
  free_by_offset_.emplace(offset, bytes);
  free_by_size_.emplace(bytes, offset);
}

void Arena::erase_free(std::map<std::size_t, std::size_t>::iterator block) {
  free_by_size_.erase({block->second, block->first});
  free_by_offset_.erase(block);
}

Tensor allocate_tensor(const std::shared_ptr<Arena>& arena, const Shape& shape, base::DType dtype,
                       MemoryTag tag) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * base::size_of(dtype);
  void* address = arena->allocate(bytes, tag);
  return {std::make_shared<ArenaBuffer>(arena, address, bytes, tag), address, dtype, shape};
}

}  // namespace longspan::backend
