#pragma once

#include "backend/arena.h"
#include "longspan/backend/backend.h"

namespace longspan::backend {

/// The processor, with its tensors in this memory.
std::unique_ptr<Backend> make_cpu_backend(std::unique_ptr<AddressRange> memory,
                                          std::size_t memory_limit);

}  // namespace longspan::backend
