#pragma once

#include <vector>

#include "longspan/backend/tensor.h"

namespace longspan::backend {

/// Backend::principal_directions on numbers of the host: `gram` [n, n] gives [count, n], in double.
std::vector<double> principal_directions(const std::vector<double>& gram, Index n, Index count);

}  // namespace longspan::backend
