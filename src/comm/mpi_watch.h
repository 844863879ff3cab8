#pragma once

#include <mpi.h>

#include <string>
#include <vector>

namespace longspan::comm {

/// Errors come back as codes (MPI_ERRORS_RETURN) and leave as PeerError, which names the operation.
void check(int code, const std::string& operation);

/// Requests of one operation, and for whom it is: what a message about it needs to know.
class Requests {
 public:
  /// "world", "sequence group of ranks 4, 5, 6, 7".
  Requests(std::string operation, std::string group, int world_rank)
      : operation_(std::move(operation)), group_(std::move(group)), world_rank_(world_rank) {}

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

}  // namespace longspan::comm
