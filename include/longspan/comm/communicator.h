#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::comm {

/// Bytes this rank has sent, by kind of collective. The names are the keys of `comm_bytes` in
/// metrics.jsonl.
struct Traffic {
  std::uint64_t all_reduce = 0;
  std::uint64_t all_gather = 0;
  std::uint64_t broadcast = 0;
};

/// The ranks of one job (or of one group of them) and their collectives. Every rank of the group
/// calls the same operations in the same order. Sums are taken in rank order, so results are
/// bitwise the same on every rank and in every run of one layout. A failed peer throws PeerError.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  /// "single", "mpi".
  virtual std::string name() const = 0;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Ranks on this machine, and this rank's number among them.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;

  /// tensor = sum of the ranks' tensors. Rank-1 dense float32 or float64, any length.
  virtual void all_reduce_sum(const backend::Tensor& tensor, backend::Backend& backend) = 0;
  /// The same for a few host numbers.
  virtual void all_reduce_sum(std::vector<double>& values) = 0;
  /// values[i] = the largest of the ranks' values[i].
  virtual void all_reduce_max(std::vector<double>& values) = 0;
  /// Host bytes of `root` to all; `bytes` is resized on the others.
  virtual void broadcast(std::string& bytes, int root) = 0;
  /// Every rank's host bytes, in rank order.
  virtual std::vector<std::string> all_gather(const std::string& bytes) = 0;
  virtual void barrier() = 0;

  const Traffic& traffic() const { return traffic_; }

 protected:
  Traffic traffic_;
};

/// Runs `action` on every rank of the group; if it threw an Error on any of them, throws that error
/// on all of them (the lowest rank's, marked as agreed: see base::Error::agreed), so that no rank
/// goes on alone and one message tells the cause. The action must not communicate.
void run_agreed(Communicator& communicator, const std::function<void()>& action);

/// One rank; no library is started.
std::unique_ptr<Communicator> make_single_communicator();

/// Every rank of the launcher's job when this process was started by mpirun or srun (a PMI or
/// OpenMPI environment is there), else a single one. Calls MPI_Init at most once and finalises at
/// exit.
std::unique_ptr<Communicator> make_world_communicator();

/// This process's rank as its launcher names it, without starting a library: 0 for a process that
/// was started by hand.
int launched_rank() noexcept;

/// "Open MPI v4.1.4".
std::string library_version();

/// Ends every rank of the job at once with this exit code: what `main` calls for an exception
/// that only this rank saw. Does not return when the job has other ranks; a no-op otherwise.
void abort_world(int exit_code) noexcept;

}  // namespace longspan::comm
