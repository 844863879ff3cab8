// Without a GPU the whole program is skipped, before its first test case.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>

#include "longspan/backend/cuda.h"

namespace {

class SkipWithoutGpu : public Catch::TestEventListenerBase {
 public:
  using TestEventListenerBase::TestEventListenerBase;

  void testRunStarting(const Catch::TestRunInfo&) override {
    constexpr int kSkipped = 77;  // as ctest is told
    if (longspan::backend::gpu_count() > 0) return;
    std::puts("skipped: no GPU");
    std::exit(kSkipped);
  }
};

}  // namespace

CATCH_REGISTER_LISTENER(SkipWithoutGpu)
