#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "backend/arena.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::backend {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20U;

class MappedMemory : public AddressRange {
 public:
  using AddressRange::AddressRange;
  ~MappedMemory() override { ::munmap(begin(), bytes()); }
};

/// Null where there are not so many addresses, as under `ulimit -v`.
std::unique_ptr<AddressRange> try_to_map(std::size_t wanted) {
  const std::size_t bytes = (wanted + kHugePage) / kHugePage * kHugePage;
  void* mapping = ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  auto* begin = static_cast<std::byte*>(mapping);
  const std::size_t skip =
      (kHugePage - reinterpret_cast<std::uintptr_t>(begin) % kHugePage) % kHugePage;
  if (skip > 0) ::munmap(begin, skip);
  begin += skip;
  ::munmap(begin + bytes, kHugePage - skip);
  // Only advice: without huge pages everything works, a little slower.
  ::madvise(begin, bytes, MADV_HUGEPAGE);
  return std::make_unique<MappedMemory>(begin, bytes);
}

}  // namespace

/// Twice as many addresses as bytes may be live, so that gaps between blocks do not matter; where
/// addresses are short, a quarter more than the limit has to do, or just as many.
std::unique_ptr<AddressRange> map_host_memory(std::size_t limit) {
  for (const std::size_t wanted : {2 * limit, limit + limit / 4, limit}) {
    if (auto range = try_to_map(wanted)) return range;
  }
  throw base::OutOfMemoryError(
      fmt::format("cannot reserve {} of addresses for a memory.limit of as much: {}",
                  base::format_bytes(limit), std::strerror(errno)));
}

}  // namespace longspan::backend
