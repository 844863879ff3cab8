#include <nvtx3/nvToolsExt.h>

#include <catch2/catch.hpp>

#include "longspan/backend/cuda.h"

namespace longspan::backend::cuda::testing {

TEST_CASE("places of a step are ranges for a profiler") {
  const auto backend = make_cuda_backend(0, std::size_t{64} << 20U);
  const int before = shim::open_ranges();
  {
    const Scope step(*backend, "forward");
    const Scope block(*backend, "block", 3);
    CHECK(shim::open_ranges() == before + 2);
    CHECK(backend->ledger().place().to_string() == "forward, block 3");
  }
  CHECK(shim::open_ranges() == before);
}

}  // namespace longspan::backend::cuda::testing
