#pragma once

#include "longspan/comm/communicator.h"

namespace longspan::comm {

/// What is `rank`'s of a vector.
backend::Tensor share(const backend::Tensor& whole, const Offsets& offsets, int rank);

/// Throws InternalError when the tensor is no dense vector that ends where the offsets do.
void check_vector(const backend::Tensor& tensor, const Offsets& offsets, const char* operation);

}  // namespace longspan::comm
