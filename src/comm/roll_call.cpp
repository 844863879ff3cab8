#include "comm/roll_call.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace longspan::comm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kTag = 1;  // operations use 0
constexpr char kCall = 'c';
constexpr char kAnswer = 'a';
constexpr milliseconds kTurn{50};
constexpr int kMostTurns = 20;
// Ranks that wait answer within milliseconds; on crowded cores it takes longer.
constexpr milliseconds kAnswerTime{2000};
// As long as a launcher may take to end a job.
constexpr milliseconds kPatience{10000};

/// Messages of one byte between all ranks. Codes of errors are ignored: a rank that cannot be
/// reached gives no sign of life.
class Roll {
 public:
  Roll() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    lowest_caller_ = size_;
    alive_.resize(static_cast<std::size_t>(size_));
    alive_[static_cast<std::size_t>(rank_)] = true;
  }

  bool is_called() const { return lowest_caller_ < size_; }
  bool is_called_by_lower() const { return lowest_caller_ < rank_; }
  bool is_complete() const {
    return std::find(alive_.begin(), alive_.end(), false) == alive_.end();
  }
  /// The ranks' order keeps them from all calling at once.
  milliseconds turn() const { return std::min(rank_, kMostTurns) * kTurn; }

  std::vector<int> silent() const {
    std::vector<int> ranks;
    for (int rank = 0; rank < size_; ++rank) {
      if (!alive_[static_cast<std::size_t>(rank)]) ranks.push_back(rank);
    }
    return ranks;
  }

  void call() const {
    for (int rank = 0; rank < size_; ++rank) {
      if (rank != rank_) send(kCall, rank);
    }
  }

  /// Takes and answers what has come.
  void listen() {
    int found = 0;
    MPI_Status status;
    while (MPI_Iprobe(MPI_ANY_SOURCE, kTag, MPI_COMM_WORLD, &found, &status) == MPI_SUCCESS &&
           found != 0) {
      const int source = status.MPI_SOURCE;
      char kind = kAnswer;
      MPI_Recv(&kind, 1, MPI_CHAR, source, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      alive_[static_cast<std::size_t>(source)] = true;
      if (kind != kCall) continue;
      lowest_caller_ = std::min(lowest_caller_, source);
      send(kAnswer, source);
    }
  }

  /// Listens until `done`, for so long at most; whether it is done.
  template <typename Done>
  bool listen_for(milliseconds most, const Done& done) {
    const auto start = Clock::now();
    while (true) {
      listen();
      if (done()) return true;
      if (Clock::now() - start >= most) return false;
      ::usleep(1000);
    }
  }

  void wait_to_be_ended() {
    listen_for(kPatience, [] { return false; });
  }

 private:
  static void send(const char& kind, int rank) {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Isend(&kind, 1, MPI_CHAR, rank, kTag, MPI_COMM_WORLD, &request);
    if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
  }

  int rank_ = 0;
  int size_ = 1;
  int lowest_caller_;
  std::vector<bool> alive_;
};

Roll& roll() {
  // Never destroyed: it is asked until the process ends.
  static Roll& one = *new Roll;
  return one;
}

}  // namespace

bool roll_is_called() {
  roll().listen();
  return roll().is_called();
}

std::vector<int> call_the_roll() {
  Roll& ranks = roll();
  if (ranks.listen_for(ranks.turn(), [&] { return ranks.is_called(); })) ranks.wait_to_be_ended();
  ranks.call();
  ranks.listen_for(kAnswerTime, [&] { return ranks.is_called_by_lower() || ranks.is_complete(); });
  // Several may have called before they heard each other: the lowest of them reports.
  if (ranks.is_called_by_lower()) ranks.wait_to_be_ended();
  return ranks.silent();
}

}  // namespace longspan::comm
