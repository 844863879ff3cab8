// For tests under mpirun: a rank whose test case failed has left out collectives that the others
// wait in, so it ends them all instead of letting them hang. Alone it changes nothing.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <catch2/catch.hpp>
#include <cstdio>

#include "longspan/comm/communicator.h"

namespace {

class AbortOnFailure : public Catch::TestEventListenerBase {
 public:
  using TestEventListenerBase::TestEventListenerBase;

  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    if (stats.totals.assertions.allOk()) return;
    std::fprintf(stderr, "rank %d failed: %s\n", longspan::comm::launched_rank(),
                 stats.testInfo.name.c_str());
    std::fflush(nullptr);
    longspan::comm::abort_world(1);
  }
};

}  // namespace

CATCH_REGISTER_LISTENER(AbortOnFailure)
