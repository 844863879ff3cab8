#pragma once

#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::backend {

/// The elements of a tensor of any float dtype, exactly, on the host; waits for them. Takes 8 bytes
/// of workspace an element where the dtype is not float64.
std::vector<double> host_values(Backend& backend, const Tensor& tensor);

}  // namespace longspan::backend
