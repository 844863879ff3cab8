#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <cstdio>

#include "longspan/backend/cuda.h"

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;  // as ctest is told
  if (longspan::backend::gpu_count() == 0) {
    std::puts("skipped: no GPU");
    return kSkipped;
  }
  return Catch::Session().run(argc, argv);
}
