#pragma once

#include "longspan/comm/communicator.h"

namespace longspan::comm {

/// What is `rank`'s of a vector.
backend::Tensor share(const backend::Tensor& whole, const Offsets& offsets, int rank);

// Contracts of Communicator's operations, which all that send check alike; they throw
// InternalError.

/// The tensor is a dense vector that the offsets divide among so many ranks.
void check_vector(const backend::Tensor& tensor, const Offsets& offsets, int ranks,
                  const char* operation);
/// Of a reduce-scatter: the part is as long as this rank's share.
void check_part(const backend::Tensor& part, const Offsets& offsets, int rank);
/// Of a send and receive.
void check_neighbours(const backend::Tensor& receive, int from, const backend::Tensor& send, int to,
                      int rank);

}  // namespace longspan::comm
