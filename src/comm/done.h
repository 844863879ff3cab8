#pragma once

#include "longspan/comm/communicator.h"

namespace longspan::comm {

/// An operation that was over when it was started.
class Done : public Pending {
 public:
  void wait() override {}
};

}  // namespace longspan::comm
