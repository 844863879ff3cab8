#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "comm/giving_up.h"

namespace longspan::comm {

/// For a call of a library that blocks and knows no timeout: while this object lives, another
/// thread watches over it, and ends the process with a message once the timeout is over.
class Deadline {
 public:
  explicit Deadline(std::string operation, std::string group = "the world");
  ~Deadline();
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  void watch();
  bool is_over_within(double seconds);

  Subject subject_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace longspan::comm
