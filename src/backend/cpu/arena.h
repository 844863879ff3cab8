#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <utility>

#include "longspan/backend/memory.h"

namespace longspan::backend::cpu {

/// One reserved range of addresses from which all tensors come. Pages are touched once and stay:
/// first touch costs up to 0.6 s/GiB in virtual machines, so nothing goes back to the system while
/// the arena lives. Best fit, lowest address first, neighbours joined. Not thread-safe.
class Arena {
 public:
  static constexpr std::size_t kAlignment = 64;

  /// Hands out at most `limit` bytes. Reserves twice as many addresses, so that gaps between live
  /// blocks do not bring the limit nearer.
  explicit Arena(std::size_t limit);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Throws OutOfMemoryError with the ledger's table. `bytes` 0 takes one alignment unit.
  void* allocate(std::size_t bytes, MemoryTag tag);
  void release(void* address, std::size_t bytes, MemoryTag tag);

  /// What an allocation counts as in the ledger.
  static std::size_t rounded(std::size_t bytes);

  std::size_t limit() const { return limit_; }
  const Ledger& ledger() const { return ledger_; }
  Ledger& ledger() { return ledger_; }

 private:
  void insert_free(std::size_t offset, std::size_t bytes);
  void erase_free(std::map<std::size_t, std::size_t>::iterator block);

  std::size_t limit_;
  std::size_t reserved_;
  std::byte* base_ = nullptr;
  std::map<std::size_t, std::size_t> free_by_offset_;
  std::set<std::pair<std::size_t, std::size_t>> free_by_size_;  ///< (bytes, offset)
  Ledger ledger_;
};

}  // namespace longspan::backend::cpu
