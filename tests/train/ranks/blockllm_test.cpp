// A part of the parameters trained at a time: every layout of ranks against one rank.
#include <catch2/catch.hpp>

#include "tests/train/ranks/layout_bench.h"

namespace longspan::train {
namespace {

using longspan::test::check_layouts;

/// Of which each of two updates has a choice of its own.
Job job_of(const std::string& precision) {
  Job job = longspan::test::job_of(8, 2, precision);
  job.optimizer.name = "blockllm";
  job.optimizer.block_active = GENERATE(0.05, 0.4);
  job.optimizer.block_interval = 1;
  job.optimizer.epsilon = 1e-4;
  return job;
}

TEST_CASE("what is chosen and how it is trained does not depend on the layout of ranks") {
  SECTION("fp64") { check_layouts(job_of("fp64"), 1e-11); }
  SECTION("fp32") { check_layouts(job_of("fp32"), 2e-5); }
}

TEST_CASE("so with adapters") {
  check_layouts(longspan::test::with_adapters(job_of("fp64")), 1e-11);
}

}  // namespace
}  // namespace longspan::train
