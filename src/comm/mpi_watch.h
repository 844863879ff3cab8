#pragma once

#include <mpi.h>

#include <string>
#include <vector>

#include "comm/giving_up.h"

namespace longspan::comm {

/// Errors come back as codes (MPI_ERRORS_RETURN) and leave as PeerError, which names the operation.
void check(int code, const std::string& operation);

/// Requests of one operation, and for whom it is: what a message about it needs to know. The
/// operation's buffers must outlive this object, whose destructor waits for what is under way.
class Requests {
 public:
  explicit Requests(Subject subject) : subject_(std::move(subject)) {}
  Requests(Requests&&) = default;
  Requests& operator=(Requests&&) = delete;
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;
  ~Requests();

  const std::string& operation() const { return subject_.operation; }
  MPI_Request* add() {
    requests_.push_back(MPI_REQUEST_NULL);
    return &requests_.back();
  }
  /// Polls until all are done. Throws PeerError after the timeout.
  void wait();

 private:
  Subject subject_;
  std::vector<MPI_Request> requests_;
};

}  // namespace longspan::comm
