#pragma once

#include <memory>

#include "longspan/backend/backend.h"

namespace longspan::testing {

/// The cpu backend disguised as a device: its tensors bear addresses that nobody can read (a
/// program that does crashes), and its operations are done some time after they return, on a
/// stream. Has what the communicators need: memory, movement, sums.
std::unique_ptr<backend::Backend> make_fake_device(std::size_t memory_limit);

/// Where the memory of a device's address lies. Throws where it is no device's.
void* memory_at(const void* device_address);

}  // namespace longspan::testing
