#pragma once

#include "longspan/backend/tensor.h"
#include "longspan/base/host_device.h"

namespace longspan::backend {

/// Pieces of size `by` that hold `value`.
LONGSPAN_HOST_DEVICE inline Index divide_up(Index value, Index by) { return (value + by - 1) / by; }

}  // namespace longspan::backend
