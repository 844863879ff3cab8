#pragma once

#include <cstddef>
#include <memory>

#include "longspan/comm/communicator.h"

namespace longspan::comm {

/// As without an argument, with messages of at most `longest_message` bytes: longer ones are sent
/// in parts.
std::unique_ptr<Communicator> make_world_communicator(std::size_t longest_message);

}  // namespace longspan::comm
