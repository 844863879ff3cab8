#pragma once

// Ranges for a profiler that is not there: how deep they are, so that a test can see each end.

int nvtxRangePushA(const char* message);
int nvtxRangePop();

namespace longspan::backend::cuda::shim {

/// Ranges that were begun and have not ended.
int open_ranges();

}  // namespace longspan::backend::cuda::shim
