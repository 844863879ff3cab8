#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "longspan/backend/memory.h"
#include "longspan/backend/tensor.h"

namespace longspan::backend {

/// One range of addresses, given back when this goes.
class AddressRange {
 public:
  AddressRange(std::byte* begin, std::size_t bytes) : begin_(begin), bytes_(bytes) {}
  virtual ~AddressRange() = default;
  AddressRange(const AddressRange&) = delete;
  AddressRange& operator=(const AddressRange&) = delete;

  std::byte* begin() const { return begin_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* begin_;
  std::size_t bytes_;
};

/// Gives out blocks of a range of addresses, from which all tensors of a device come, and keeps
/// their ledger. Never touches the memory. Best fit, lowest address first, neighbours joined; what
/// lies beyond all that was ever used is taken last, so that the same allocations get the same
/// places however large the range is. Not thread-safe.
class Arena {
 public:
  /// What blocks are aligned and rounded to: a cache line of the processor; on a GPU what
  /// cudaMalloc promises, so that every vector access is aligned.
  static constexpr std::size_t kCpuAlignment = 64;
  static constexpr std::size_t kCudaAlignment = 256;

  /// Hands out at most `limit` bytes of the range.
  Arena(std::unique_ptr<AddressRange> range, std::size_t limit, std::size_t alignment);

  /// Throws OutOfMemoryError with the ledger's table. `bytes` 0 takes one alignment unit.
  void* allocate(std::size_t bytes, MemoryTag tag);
  void release(void* address, std::size_t bytes, MemoryTag tag);

  /// What an allocation counts as in the ledger.
  static std::size_t rounded(std::size_t bytes, std::size_t alignment);

  std::size_t limit() const { return limit_; }
  /// Bytes of the range that were ever in use, gaps between blocks included.
  std::size_t footprint() const { return footprint_; }
  const Ledger& ledger() const { return ledger_; }
  Ledger& ledger() { return ledger_; }

 private:
  std::size_t place(std::size_t bytes, MemoryTag tag);
  [[noreturn]] void refuse(std::size_t bytes, MemoryTag tag) const;
  void insert_free(std::size_t offset, std::size_t bytes);
  void erase_free(std::map<std::size_t, std::size_t>::iterator block);

  std::unique_ptr<AddressRange> range_;
  std::size_t limit_;
  std::size_t alignment_;
  std::size_t used_end_ = 0;  ///< end of the last block in use; beyond it all is free
  std::size_t footprint_ = 0;
  std::map<std::size_t, std::size_t> free_by_offset_;           ///< gaps before used_end_
  std::set<std::pair<std::size_t, std::size_t>> free_by_size_;  ///< (bytes, offset)
  Ledger ledger_;
};

/// A tensor whose memory goes back to the arena with its last view.
Tensor allocate_tensor(const std::shared_ptr<Arena>& arena, const Shape& shape, base::DType dtype,
                       MemoryTag tag);

/// Addresses of the processor's memory in huge pages, which are touched once and stay: first touch
/// costs up to 0.6 s/GiB in virtual machines. Twice `limit`, so that gaps between live blocks do
/// not bring the limit nearer.
std::unique_ptr<AddressRange> map_host_memory(std::size_t limit);

}  // namespace longspan::backend
