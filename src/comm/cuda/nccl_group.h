#pragma once

#include <nccl.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <string>

#include "comm/giving_up.h"
#include "longspan/comm/communicator.h"

namespace longspan::comm {

/// NCCL's communicator of a group, non-blocking: its calls return at once, and are then asked
/// whether they are done, so that a peer that is gone cannot keep the host in one. Its functions
/// may not be called by two threads at a time; this class sees to it.
class NcclGroup {
 public:
  /// Called by every rank of `host`, which brings them together. Throws PeerError.
  NcclGroup(Communicator& host, const std::string& description, int world_rank);

  const std::string& description() const { return description_; }

  /// Calls `post`, which calls NCCL's operations, as one NCCL group; what it posted is on its
  /// stream when this returns. Throws PeerError.
  void issue(const Subject& subject, const std::function<void(ncclComm_t)>& post);

  /// What went wrong while nobody asked: "NCCL: remote process exited", or "". Of any thread;
  /// does not wait for a call of another one.
  std::string failure();

  /// Ends what is under way with whatever result; then nothing is possible but the destructor,
  /// which leaves the rest to the process's end. May hang, so it goes to a thread of its own.
  void abort();
  /// Called by every rank, for all groups in the same order, when nothing is under way.
  void finish();

 private:
  ncclResult_t ask(std::string* text);
  /// Until NCCL has done what it was told.
  void settle(const Subject& subject, ncclResult_t result);

  std::string description_;
  std::timed_mutex mutex_;
  ncclComm_t comm_ = nullptr;  // guarded by mutex_
  std::atomic<bool> aborted_ = false;
};

/// Throws an Error that quotes the call, unless it went well or goes on.
void check(ncclResult_t result, const char* call);

}  // namespace longspan::comm
