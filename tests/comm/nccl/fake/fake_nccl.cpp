#include "tests/comm/nccl/fake/fake_nccl.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "tests/comm/fake_device.h"
#include "tests/comm/fake_streams.h"

namespace fs = std::filesystem;
using longspan::testing::FakeStream;
using longspan::testing::memory_at;

namespace {

constexpr int kPollsUntilDone = 3;

std::atomic<ncclResult_t> injected{ncclSuccess};
std::atomic<bool> abort_hangs{false};
std::atomic<int> aborted_count{0};
std::vector<int> destroyed;

[[noreturn]] void die(const std::string& fault) {
  std::fprintf(stderr, "fake NCCL: %s\n", fault.c_str());
  std::abort();
}

/// Messages of one rank of a communicator. A file appears whole, by renaming.
class Mail {
 public:
  Mail(fs::path folder, int rank) : folder_(std::move(folder)), rank_(rank) {}

  void send(int to, const std::string& bytes) { put(name(rank_, to, sent_[to]++), bytes); }
  /// Waits for it; false when aborted.
  bool receive(int from, std::string& bytes) {
    const fs::path file = folder_ / name(from, rank_, received_[from]++);
    while (!fs::exists(file)) {
      if (aborted) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    std::ifstream in(file, std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(in), {}};
    if (content.size() != bytes.size()) die("a message of another size than was expected");
    bytes = content;
    fs::remove(file);
    return true;
  }
  void sign(const char* event) { put(event + std::to_string(rank_), ""); }
  bool have_all_signed(const char* event, int ranks) const {
    for (int rank = 0; rank < ranks; ++rank) {
      if (!fs::exists(folder_ / (event + std::to_string(rank)))) return false;
    }
    return true;
  }
  const fs::path& folder() const { return folder_; }

  std::atomic<bool> aborted = false;
  std::atomic<int> under_way = 0;  ///< operations on streams

 private:
  static std::string name(int from, int to, int number) {
    return std::to_string(from) + "-" + std::to_string(to) + "-" + std::to_string(number);
  }
  void put(const std::string& file, const std::string& bytes) {
    const fs::path draft = folder_ / ("draft-" + std::to_string(rank_) + "-" + file);
    std::ofstream(draft, std::ios::binary) << bytes;
    fs::rename(draft, folder_ / file);
  }

  fs::path folder_;
  int rank_;
  std::map<int, int> sent_;
  std::map<int, int> received_;
};

/// One operation in a group: first all of a group send, then all receive.
struct Step {
  std::function<void(Mail&)> send;
  std::function<bool(Mail&)> receive;
};

enum class Phase { kJoining, kIdle, kPosting, kFinishing, kFinished };

}  // namespace

struct ncclComm {
  std::shared_ptr<Mail> mail;
  int rank = 0;
  int ranks = 0;
  Phase phase = Phase::kJoining;
  int polls = 0;
  std::vector<Step> posted;
  FakeStream* stream = nullptr;
  std::atomic<bool> in_call = false;

  void launch() {
    ++mail->under_way;
    stream->push([mail = mail, steps = std::move(posted)] {
      for (const Step& step : steps) step.send(*mail);
      for (const Step& step : steps) {
        if (!step.receive(*mail)) break;
      }
      --mail->under_way;
    });
    posted.clear();
    phase = Phase::kIdle;
  }
};

namespace {

/// No second thread may be in a communicator meanwhile.
class Call {
 public:
  explicit Call(ncclComm_t comm) : comm_(comm) {
    if (comm_->in_call.exchange(true)) die("two threads call one communicator");
  }
  ~Call() { comm_->in_call = false; }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  ncclComm_t comm_;
};

thread_local int group_depth = 0;
thread_local ncclComm_t group_comm = nullptr;

std::string bytes_at(const void* device_address, std::size_t bytes) {
  return {static_cast<const char*>(memory_at(device_address)), bytes};
}

void write_to(void* device_address, const std::string& bytes) {
  std::memcpy(memory_at(device_address), bytes.data(), bytes.size());
}

template <typename T>
void add_to(std::string& sum, const std::string& values) {
  for (std::size_t i = 0; i < sum.size(); i += sizeof(T)) {
    T a{};
    T b{};
    std::memcpy(&a, &sum[i], sizeof(T));
    std::memcpy(&b, &values[i], sizeof(T));
    a += b;
    std::memcpy(&sum[i], &a, sizeof(T));
  }
}

std::size_t size_of(ncclDataType_t type) {
  if (type == ncclInt8) return 1;
  return type == ncclFloat32 ? sizeof(float) : sizeof(double);
}

/// The sum of what all ranks send, from the last to the first.
bool receive_sum(Mail& mail, int ranks, void* out, std::size_t bytes, ncclDataType_t type) {
  std::string sum(bytes, '\0');
  for (int rank = ranks - 1; rank >= 0; --rank) {
    std::string values(bytes, '\0');
    if (!mail.receive(rank, values)) return false;
    type == ncclFloat32 ? add_to<float>(sum, values) : add_to<double>(sum, values);
  }
  write_to(out, sum);
  return true;
}

bool receive_at(Mail& mail, int from, void* out, std::size_t bytes) {
  std::string message(bytes, '\0');
  if (!mail.receive(from, message)) return false;
  write_to(out, message);
  return true;
}

ncclResult_t post(ncclComm_t comm, cudaStream_t stream, Step step) {
  const Call call(comm);
  if (group_depth == 0 || comm->phase != Phase::kIdle) return ncclInvalidUsage;
  comm->posted.push_back(std::move(step));
  comm->stream = reinterpret_cast<FakeStream*>(stream);
  group_comm = comm;
  return ncclSuccess;
}

}  // namespace

namespace longspan::testing {

void fail_nccl(ncclResult_t error) { injected = error; }
void hang_in_abort() { abort_hangs = true; }
int aborted_communicators() { return aborted_count; }
std::vector<int> destroyed_sizes() { return destroyed; }

}  // namespace longspan::testing

extern "C" {

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclRemoteError ? "remote process exited" : "some error";
}
const char* ncclGetLastError(ncclComm_t /*comm*/) { return "as was injected"; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static int count = 0;
  const std::string name =
      "longspan-nccl-" + std::to_string(::getpid()) + "-" + std::to_string(count++);
  const fs::path folder = fs::temp_directory_path() / name;
  fs::create_directories(folder);
  std::snprintf(id->internal, sizeof(id->internal), "%s", folder.c_str());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidUsage;
  *comm = new ncclComm;
  (*comm)->mail = std::make_shared<Mail>(id.internal, rank);
  (*comm)->rank = rank;
  (*comm)->ranks = ranks;
  (*comm)->mail->sign("joined");
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  const Call call(comm);
  *state = injected;
  if (*state != ncclSuccess) return ncclSuccess;
  const char* event = comm->phase == Phase::kJoining ? "joined" : "finished";
  switch (comm->phase) {
    case Phase::kPosting:
      if (++comm->polls >= kPollsUntilDone) comm->launch();
      break;
    case Phase::kFinishing:
      if (comm->mail->under_way == 0) comm->mail->sign("finished");
      [[fallthrough]];
    case Phase::kJoining:
      if (comm->mail->have_all_signed(event, comm->ranks)) {
        comm->phase = comm->phase == Phase::kJoining ? Phase::kIdle : Phase::kFinished;
      }
      break;
    case Phase::kIdle:
    case Phase::kFinished:
      return ncclSuccess;
  }
  *state = ncclInProgress;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  const Call call(comm);
  if (comm->phase != Phase::kIdle) return ncclInvalidUsage;
  comm->phase = Phase::kFinishing;
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm->phase != Phase::kFinished) die("a communicator is destroyed that was not finished");
  comm->mail->sign("gone");
  if (comm->mail->have_all_signed("gone", comm->ranks)) {
    std::error_code ignored;
    fs::remove_all(comm->mail->folder(), ignored);
  }
  destroyed.push_back(comm->ranks);
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  while (abort_hangs) std::this_thread::sleep_for(std::chrono::seconds(1));
  comm->mail->aborted = true;
  ++aborted_count;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group_depth > 0) return ncclSuccess;
  const ncclComm_t comm = std::exchange(group_comm, nullptr);
  if (comm == nullptr) return ncclSuccess;
  const Call call(comm);
  comm->phase = Phase::kPosting;
  comm->polls = 0;
  return ncclInProgress;
}

ncclResult_t ncclSend(const void* send, std::size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * size_of(type);
  return post(comm, stream,
              {[=](Mail& mail) { mail.send(peer, bytes_at(send, bytes)); },
               [](Mail& /*mail*/) { return true; }});
}

ncclResult_t ncclRecv(void* receive, std::size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * size_of(type);
  return post(
      comm, stream,
      {[](Mail& /*mail*/) {}, [=](Mail& mail) { return receive_at(mail, peer, receive, bytes); }});
}

ncclResult_t ncclAllReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t /*sum*/, ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * size_of(type);
  const int ranks = comm->ranks;
  return post(comm, stream,
              {[=](Mail& mail) {
                 for (int to = 0; to < ranks; ++to) mail.send(to, bytes_at(send, bytes));
               },
               [=](Mail& mail) { return receive_sum(mail, ranks, receive, bytes, type); }});
}

ncclResult_t ncclReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                        ncclRedOp_t /*sum*/, int root, ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * size_of(type);
  const int ranks = comm->ranks;
  const bool is_root = comm->rank == root;
  return post(
      comm, stream,
      {[=](Mail& mail) { mail.send(root, bytes_at(send, bytes)); },
       [=](Mail& mail) { return !is_root || receive_sum(mail, ranks, receive, bytes, type); }});
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, std::size_t count,
                               ncclDataType_t type, ncclRedOp_t /*sum*/, ncclComm_t comm,
                               cudaStream_t stream) {
  const std::size_t bytes = count * size_of(type);
  const int ranks = comm->ranks;
  return post(comm, stream,
              {[=](Mail& mail) {
                 for (int to = 0; to < ranks; ++to) {
                   const auto* begin = static_cast<const char*>(send) + bytes * std::size_t(to);
                   mail.send(to, bytes_at(begin, bytes));
                 }
               },
               [=](Mail& mail) { return receive_sum(mail, ranks, receive, bytes, type); }});
}

ncclResult_t ncclBroadcast(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * size_of(type);
  const int ranks = comm->ranks;
  const bool is_root = comm->rank == root;
  return post(comm, stream,
              {[=](Mail& mail) {
                 for (int to = 0; is_root && to < ranks; ++to) {
                   mail.send(to, bytes_at(send, bytes));
                 }
               },
               [=](Mail& mail) { return receive_at(mail, root, receive, bytes); }});
}

ncclResult_t ncclAllGather(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * size_of(type);
  const int ranks = comm->ranks;
  return post(comm, stream,
              {[=](Mail& mail) {
                 for (int to = 0; to < ranks; ++to) mail.send(to, bytes_at(send, bytes));
               },
               [=](Mail& mail) {
                 for (int from = 0; from < ranks; ++from) {
                   auto* const place = static_cast<char*>(receive) + bytes * std::size_t(from);
                   if (!receive_at(mail, from, place, bytes)) return false;
                 }
                 return true;
               }});
}
}
