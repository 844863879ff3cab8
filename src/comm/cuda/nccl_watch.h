#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "backend/cuda/event.h"
#include "comm/cuda/nccl_group.h"
#include "comm/giving_up.h"

namespace longspan::comm {

/// An operation on the communication stream.
struct NcclWork {
  Subject subject;
  backend::cuda::Event ready;  ///< in the compute stream: what the operation reads is there
  backend::cuda::Event done;   ///< in the communication stream
  /// Both have been recorded.
  std::atomic<bool> issued = false;
};

/// All of NCCL's communicators of this process, and the thread that watches over them, because the
/// host may be waiting for the device, and the device for a peer that is gone. It asks NCCL for
/// errors, and whether the operation that the device works on takes longer than the timeout.
///
/// What it finds it tells the thread that may call MPI, which gives up where it waits for ranks
/// next. If that one waits for the device instead, it is not let go by an abort: it would go on
/// with what an aborted operation left in memory, and might save it. This thread then tells the
/// failure itself, and ends the process.
class NcclWatch {
 public:
  static NcclWatch& of_process();

  /// A communicator lives from here to `retire`.
  std::shared_ptr<NcclGroup> meet(Communicator& host, const std::string& description,
                                  int world_rank, int device);
  /// Groups are finished together when the last of them is retired: in the reverse order of their
  /// making, which is the same on all ranks of any two. When an exception goes by they are left to
  /// the process's end, which this thread then sees to.
  void retire();

  /// The operation that is about to be issued.
  std::shared_ptr<NcclWork> begin(Subject subject);

  /// All communicators, at once: NCCL may hang when one is aborted after another. Returns after
  /// some seconds even so. Nothing is possible after it.
  static void abort_all();

 private:
  void watch();
  std::shared_ptr<NcclWork> first_under_way();
  /// "" when all is well.
  std::string find_failure();
  [[noreturn]] void end();
  std::vector<std::shared_ptr<NcclGroup>> groups();
  /// Whether the thread is to go on after so long.
  bool pause(double seconds);

  std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::vector<std::shared_ptr<NcclGroup>> groups_;  // in the order of their making
  std::size_t retired_ = 0;
  std::deque<std::shared_ptr<NcclWork>> works_;
  bool over_ = false;
  std::atomic<bool> leaving_ = false;
  std::thread thread_;

  // Of the watching thread.
  int device_ = 0;
  std::shared_ptr<NcclWork> watched_;
  Patience patience_;
};

}  // namespace longspan::comm
