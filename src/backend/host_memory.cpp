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

}  // namespace

std::unique_ptr<AddressRange> map_host_memory(std::size_t limit) {
  const std::size_t bytes = (2 * limit + kHugePage) / kHugePage * kHugePage;
  void* mapping = ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    throw base::OutOfMemoryError(
        fmt::format("cannot reserve {} of addresses for a memory.limit of {}: {}",
                    base::format_bytes(bytes), base::format_bytes(limit), std::strerror(errno)));
  }
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

}  // namespace longspan::backend
