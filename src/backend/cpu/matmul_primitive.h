#pragma once

#include <cstddef>
#include <cstdint>
#include <oneapi/dnnl/dnnl.hpp>

#include "backend/matmul_key.h"

namespace longspan::backend::cpu {

/// What oneDNN takes scratch memory to be aligned to: it places its buffers from the next such
/// address on, so memory that starts elsewhere would be written beyond its end.
inline constexpr std::size_t kScratchAlignment = 4096;

/// Bytes to allocate for `bytes` of scratch at any address, and the place to use in them.
inline std::size_t scratch_room(std::size_t bytes) {
  return bytes == 0 ? 0 : bytes + kScratchAlignment;
}
inline void* aligned_scratch(void* memory) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  const auto gap = (kScratchAlignment - address % kScratchAlignment) % kScratchAlignment;
  return static_cast<std::byte*>(memory) + gap;
}

/// The description of the primitive, with scratch memory left to the caller.
dnnl::matmul::primitive_desc describe_matmul(const MatmulKey& key, const dnnl::engine& engine);

}  // namespace longspan::backend::cpu
