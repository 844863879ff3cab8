#include "backend/cpu/arena.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::backend::cpu {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20U;

}  // namespace

Arena::Arena(std::size_t limit)
    : limit_(limit), reserved_((2 * limit + kHugePage) / kHugePage * kHugePage) {
  void* mapping = ::mmap(nullptr, reserved_ + kHugePage, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    throw base::OutOfMemoryError(fmt::format(
        "cannot reserve {} of addresses for a memory.limit of {}: {}",
        base::format_bytes(reserved_), base::format_bytes(limit), std::strerror(errno)));
  }
  base_ = static_cast<std::byte*>(mapping);
  const auto misalignment = reinterpret_cast<std::uintptr_t>(base_) % kHugePage;
  if (misalignment != 0) {
    const std::size_t skip = kHugePage - misalignment;
    ::munmap(base_, skip);
    base_ += skip;
    ::munmap(base_ + reserved_, kHugePage - skip);
  } else {
    ::munmap(base_ + reserved_, kHugePage);
  }
  // Only advice: without huge pages everything works, a little slower.
  ::madvise(base_, reserved_, MADV_HUGEPAGE);
  insert_free(0, reserved_);
}

Arena::~Arena() { ::munmap(base_, reserved_); }

std::size_t Arena::rounded(std::size_t bytes) {
  return std::max(bytes + kAlignment - 1, kAlignment) / kAlignment * kAlignment;
}

void* Arena::allocate(std::size_t bytes, MemoryTag tag) {
  const std::size_t wanted = rounded(bytes);
  const auto fit = free_by_size_.lower_bound({wanted, 0});
  if (ledger_.live_total() + wanted > limit_ || fit == free_by_size_.end()) {
    throw base::OutOfMemoryError(fmt::format(
        "out of memory in {}: {} more for {} with {} live, and memory.limit is {}\n{}",
        ledger_.place().depth() == 0 ? "the set-up" : ledger_.place().to_string(),
        base::format_bytes(wanted), name_of(tag), base::format_bytes(ledger_.live_total()),
        base::format_bytes(limit_), ledger_.to_string()));
  }
  const auto [block_bytes, offset] = *fit;
  erase_free(free_by_offset_.find(offset));
  if (block_bytes > wanted) insert_free(offset + wanted, block_bytes - wanted);
  ledger_.add(tag, wanted);
  return base_ + offset;
}

void Arena::release(void* address, std::size_t bytes, MemoryTag tag) {
  auto offset = static_cast<std::size_t>(static_cast<std::byte*>(address) - base_);
  std::size_t size = rounded(bytes);
  ledger_.remove(tag, size);
  auto next = free_by_offset_.lower_bound(offset);
  if (next != free_by_offset_.end() && offset + size == next->first) {
    size += next->second;
    erase_free(next);
    next = free_by_offset_.lower_bound(offset);
  }
  if (next != free_by_offset_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == offset) {
      offset = previous->first;
      size += previous->second;
      erase_free(previous);
    }
  }
  insert_free(offset, size);
}

void Arena::insert_free(std::size_t offset, std::size_t bytes) {
  free_by_offset_.emplace(offset, bytes);
  free_by_size_.emplace(bytes, offset);
}

void Arena::erase_free(std::map<std::size_t, std::size_t>::iterator block) {
  free_by_size_.erase({block->second, block->first});
  free_by_offset_.erase(block);
}

}  // namespace longspan::backend::cpu
