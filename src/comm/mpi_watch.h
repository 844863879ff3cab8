#pragma once

#include <mpi.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace longspan::comm {

/// Errors come back as codes (MPI_ERRORS_RETURN) and leave as PeerError, which names the operation.
void check(int code, const std::string& operation);

/// Whether an operation has failed. MPI is not to be called any more but to abort: it would go on
/// with messages whose buffers may be freed.
bool is_broken();

/// Requests of one operation, and for whom it is: what a message about it needs to know. The
/// operation's buffers must outlive this object, whose destructor waits for what is under way.
class Requests {
 public:
  /// "the world", "the sequence group of rank(s) 4, 5, 6, 7".
  Requests(std::string operation, std::string group, int world_rank)
      : operation_(std::move(operation)), group_(std::move(group)), world_rank_(world_rank) {}
  Requests(Requests&&) = default;
  Requests& operator=(Requests&&) = delete;
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;
  ~Requests();

  const std::string& operation() const { return operation_; }
  MPI_Request* add() {
    requests_.push_back(MPI_REQUEST_NULL);
    return &requests_.back();
  }
  /// Polls until all are done. Throws PeerError after the timeout.
  void wait();

 private:
  [[noreturn]] void give_up(double seconds) const;

  std::string operation_;
  std::string group_;
  int world_rank_;
  std::vector<MPI_Request> requests_;
};

/// For a call of MPI that blocks and knows no timeout: while this object lives, another thread
/// watches over it, and ends the process with a message once the timeout is over.
class Deadline {
 public:
  explicit Deadline(std::string operation, std::string group = "the world");
  ~Deadline();
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  void watch();
  bool is_over_within(double seconds);

  std::string operation_;
  std::string group_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace longspan::comm
