#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::comm {

/// What bytes are sent for. The names are the keys of `comm_bytes` in metrics.jsonl.
enum class Collective : std::uint8_t {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kAllToAll,
  kSendReceive,
  kBroadcast
};
inline constexpr std::array kCollectives = {Collective::kAllReduce,   Collective::kReduceScatter,
                                            Collective::kAllGather,   Collective::kAllToAll,
                                            Collective::kSendReceive, Collective::kBroadcast};

/// "all_reduce", "reduce_scatter", "all_gather", "all_to_all", "send_receive", "broadcast".
const char* name_of(Collective kind);

/// Bytes sent, by kind.
class Traffic {
 public:
  std::uint64_t& operator[](Collective kind) { return bytes_[static_cast<std::size_t>(kind)]; }
  std::uint64_t operator[](Collective kind) const { return bytes_[static_cast<std::size_t>(kind)]; }
  std::uint64_t total() const;

 private:
  std::array<std::uint64_t, kCollectives.size()> bytes_{};
};

/// An operation that was started and may still be under way: its tensors must not be touched before
/// `wait` has returned. With a device that works on its own, `wait` may return at once, and
/// whatever the backend is given from then on comes after the operation. The destructor waits, too,
/// because the tensors are written to until then, also when an exception goes by; it tells nothing,
/// and what was received may be lost.
class Pending {
 public:
  virtual ~Pending() = default;
  Pending() = default;
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  /// Throws PeerError. Called once.
  virtual void wait() = 0;
};

/// Where the parts of a whole begin, by rank, and its end: one entry more than there are ranks.
using Offsets = std::vector<backend::Index>;

/// `elements` in one share a rank, equal but for the last ones: how `all_reduce_sum` divides them.
Offsets even_offsets(backend::Index elements, int ranks);

/// The ranks of one job (or of one group of them) and their collectives. Every rank of the group
/// calls the same operations in the same order, and ranks of several groups call those of all in
/// the same order. What an all-reduce gives is bitwise the same on every rank, and sums are bitwise
/// the same in every run of one layout: taken in rank order by "mpi", in an order of the library's
/// choice, which depends on machines and sizes, by "nccl". A peer that failed, or did not
/// answer within the timeout, makes one of the ranks that wait for it throw PeerError, which names
/// the operation, the step, the group and the ranks that give no sign of life; then no operation is
/// possible any more, and the others wait to be ended by `abort_world`. A rank whose host waits for
/// its device, which waits for a peer, cannot throw: it prints the same message and ends.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  /// How tensors travel: "single", "mpi", "nccl".
  virtual std::string name() const = 0;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Ranks on this machine, and this rank's number among them.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;

  /// tensor = sum of the ranks' tensors. Rank-1 dense float32 or float64, any length.
  virtual std::unique_ptr<Pending> start_all_reduce_sum(const backend::Tensor& tensor,
                                                        backend::Backend& backend) = 0;
  /// values[i] = sum of the ranks' values[i]: a few host numbers.
  virtual void all_reduce_sum(std::vector<double>& values) = 0;
  /// values[i] = the largest of the ranks' values[i].
  virtual void all_reduce_max(std::vector<double>& values) = 0;
  /// Host bytes of `root` to all; `bytes` is resized on the others.
  virtual void broadcast(std::string& bytes, int root) = 0;
  /// part = sum of the ranks' `whole`, of which rank i gets elements [offsets[i], offsets[i + 1]).
  /// Rank-1 dense float32 or float64; part may be that piece of whole itself.
  virtual std::unique_ptr<Pending> start_reduce_scatter_sum(const backend::Tensor& part,
                                                            const backend::Tensor& whole,
                                                            const Offsets& offsets,
                                                            backend::Backend& backend) = 0;
  /// Fills `whole`, of which rank i brings elements [offsets[i], offsets[i + 1]): they are in place
  /// already. Rank-1 dense, any dtype and length.
  virtual std::unique_ptr<Pending> start_all_gather(const backend::Tensor& whole,
                                                    const Offsets& offsets,
                                                    backend::Backend& backend) = 0;
  /// Sends elements [send_offsets[i], send_offsets[i + 1]) of `send` to rank i, and receives rank
  /// i's into the same place of `receive` by its offsets. Rank-1 dense tensors of one dtype, of any
  /// length. Messages may be empty; the rank's own are copied.
  virtual void all_to_all(const backend::Tensor& receive, const Offsets& receive_offsets,
                          const backend::Tensor& send, const Offsets& send_offsets,
                          backend::Backend& backend) = 0;
  /// `send` goes to rank `to`, and what `from` sends comes into `receive`. Rank-1 dense, any dtype
  /// and length; between two ranks messages arrive in the order in which they were started.
  virtual std::unique_ptr<Pending> start_send_receive(const backend::Tensor& receive, int from,
                                                      const backend::Tensor& send, int to,
                                                      backend::Backend& backend) = 0;
  /// Every rank's host bytes, in rank order.
  virtual std::vector<std::string> all_gather(const std::string& bytes) = 0;
  virtual void barrier() = 0;

  /// A communicator of some of the ranks, in the order listed, this one among them. Called by every
  /// rank, each with the list that it belongs to; the lists are disjoint. Messages call it `name`.
  virtual std::unique_ptr<Communicator> group(const std::string& name,
                                              const std::vector<int>& members) = 0;

  /// What this rank has sent, in all groups that were made of this communicator, too.
  const Traffic& traffic() const { return *traffic_; }

 protected:
  /// For one that counts what it sends where `other` does.
  static std::shared_ptr<Traffic> traffic_of(const Communicator& other) { return other.traffic_; }

  std::shared_ptr<Traffic> traffic_ = std::make_shared<Traffic>();
};

/// How long an operation may take until PeerError, for all communicators of this process; and the
/// step that its message names (negative: none). The start is 600 seconds.
void set_timeout(double seconds);
void set_step(std::int64_t step);

/// Runs `action` on every rank of the group; if it threw an Error on any of them, throws that error
/// on all of them (the lowest rank's, marked as agreed: see base::Error::agreed), so that no rank
/// goes on alone and one message tells the cause. The action must not communicate.
void run_agreed(Communicator& communicator, const std::function<void()>& action);

/// One rank; no library is started.
std::unique_ptr<Communicator> make_single_communicator();

/// Every rank of the launcher's job when this process was started by mpirun or srun (a PMI or
/// OpenMPI environment is there), else a single one. Calls MPI_Init at most once and finalises at
/// exit. Throws InputError in one of several processes of srun that have no such environment.
std::unique_ptr<Communicator> make_world_communicator();

/// `host` for everything but the tensors of `backend`, which travel from GPU to GPU (NCCL). Called
/// by every rank of the job, before groups are made. Where that cannot be it returns `host` itself
/// and says why in `why_not` (else empty): NCCL wants a GPU for each rank; tensors may lie in the
/// host's memory; the program may have been built without it. What lies on a GPU then goes through
/// the host's memory. One rank gets a single communicator. Throws PeerError when the GPUs cannot
/// reach each other.
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host,
                                                     backend::Backend& backend,
                                                     std::string* why_not);

/// Whether this process is a rank of a launcher's job, by the same signs.
bool is_launched() noexcept;

/// This process's rank as its launcher names it, without starting a library: 0 for a process that
/// was started by hand.
int launched_rank() noexcept;

/// "Open MPI v4.1.4".
std::string library_version();

/// Ends every rank of the job at once with this exit code: what `main` calls for an exception
/// that only this rank saw. Does not return when the job has other ranks; a no-op otherwise.
void abort_world(int exit_code) noexcept;

/// Whether this rank is the one to tell of a failure that others may meet, too: one rank a machine
/// is, and a lower rank comes first, so that it has ended the job before another machine's tells
/// the same. On all others this returns, with false, only if they are not ended within seconds.
bool may_report() noexcept;

}  // namespace longspan::comm
