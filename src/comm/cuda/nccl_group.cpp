#include "comm/cuda/nccl_group.h"

#include <fmt/format.h>
#include <sched.h>

#include <chrono>

#include "comm/deadline.h"
#include "longspan/base/error.h"

namespace longspan::comm {
namespace {

// Far longer than a call takes that does not hang.
constexpr std::chrono::seconds kTimeOfCalls{1};

/// Rank 0's, on every rank.
ncclUniqueId shared_id(Communicator& host, const std::string& description) {
  ncclUniqueId id{};
  if (host.rank() == 0) {
    const Deadline deadline("ncclGetUniqueId", description);
    check(ncclGetUniqueId(&id), "ncclGetUniqueId");
  }
  std::string bytes(id.internal, sizeof(id.internal));
  host.broadcast(bytes, 0);
  bytes.copy(id.internal, sizeof(id.internal));
  return id;
}

bool goes_on(ncclResult_t result) { return result == ncclSuccess || result == ncclInProgress; }

}  // namespace

void check(ncclResult_t result, const char* call) {
  if (goes_on(result)) return;
  const bool is_ours = result == ncclInvalidArgument || result == ncclInvalidUsage;
  throw base::Error(is_ours ? base::ExitCode::kInternal : base::ExitCode::kPeerFailed,
                    fmt::format("NCCL: {} in {}", ncclGetErrorString(result), call));
}

NcclGroup::NcclGroup(Communicator& host, const std::string& description, int world_rank)
    : description_(description) {
  ncclUniqueId id = shared_id(host, description);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclResult_t result = ncclSuccess;
  {
    const Deadline deadline("ncclCommInitRankConfig", description);
    result = ncclCommInitRankConfig(&comm_, host.size(), id, host.rank(), &config);
  }
  settle({"the meeting of GPUs", description, world_rank}, result);
}

ncclResult_t NcclGroup::ask(std::string* text) {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
  if (asked != ncclSuccess) state = asked;
  if (!goes_on(state)) {
    *text = fmt::format("NCCL: {} ({})", ncclGetErrorString(state), ncclGetLastError(comm_));
  }
  return state;
}

void NcclGroup::settle(const Subject& subject, ncclResult_t result) {
  std::string text;
  if (!goes_on(result)) text = fmt::format("NCCL: {}", ncclGetErrorString(result));
  Wait wait(subject);
  while (text.empty()) {
    {
      const std::lock_guard<std::timed_mutex> lock(mutex_);
      if (ask(&text) == ncclSuccess) return;
    }
    wait.look();
  }
  give_up(failed(subject, text), "");
}

void NcclGroup::issue(const Subject& subject, const std::function<void(ncclComm_t)>& post) {
  ncclResult_t result = ncclSuccess;
  {
    const std::lock_guard<std::timed_mutex> lock(mutex_);
    check(ncclGroupStart(), "ncclGroupStart");
    post(comm_);
    result = ncclGroupEnd();
  }
  settle(subject, result);
}

std::string NcclGroup::failure() {
  std::string text;
  const std::unique_lock<std::timed_mutex> lock(mutex_, std::try_to_lock);
  if (lock.owns_lock() && comm_ != nullptr && !aborted_) ask(&text);
  return text;
}

void NcclGroup::abort() {
  aborted_ = true;
  // A call that hangs in NCCL may hold the mutex: then this is how it is ended.
  const std::unique_lock<std::timed_mutex> lock(mutex_, kTimeOfCalls);
  if (comm_ != nullptr) ncclCommAbort(comm_);
}

void NcclGroup::finish() {
  const Deadline deadline("ncclCommFinalize", description_);
  const std::lock_guard<std::timed_mutex> lock(mutex_);
  ncclResult_t state = ncclCommFinalize(comm_);
  std::string text;
  while (goes_on(state) && (state = ask(&text)) == ncclInProgress) ::sched_yield();
  // All results have been used by now, so nobody needs to hear of an error.
  if (state == ncclSuccess) ncclCommDestroy(comm_);
  comm_ = nullptr;
}

}  // namespace longspan::comm
