#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "comm/all_reduce.h"
#include "comm/group.h"
#include "longspan/base/error.h"
#include "longspan/comm/communicator.h"

namespace longspan::comm {
namespace {

using backend::Index;
using backend::Tensor;

/// Errors come back as codes (MPI_ERRORS_RETURN) and leave as exceptions that name the operation.
void check(int code, const char* operation) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw base::PeerError(fmt::format("communication failed in {}: {}", operation, text.data()));
}

bool launched_by_mpi() {
  // What OpenMPI's mpirun, PMIx and PMI-2 launchers (srun) set for every rank.
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr ||
         std::getenv("PMI_RANK") != nullptr;
}

void finalize_at_exit() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized == 0) MPI_Finalize();
}

void initialise_once() {
  int initialised = 0;
  MPI_Initialized(&initialised);
  if (initialised != 0) return;
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  std::atexit(finalize_at_exit);
}

class MpiCommunicator : public Communicator {
 public:
  /// Of every rank of the job.
  MpiCommunicator() : comm_(MPI_COMM_WORLD) {
    initialise_once();
    find_ranks();
  }
  /// Takes the communicator over.
  explicit MpiCommunicator(MPI_Comm comm) : comm_(comm) { find_ranks(); }
  ~MpiCommunicator() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (comm_ != MPI_COMM_WORLD && finalized == 0) MPI_Comm_free(&comm_);
  }

  std::string name() const override { return "mpi"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }

  void all_reduce_sum(const Tensor& tensor, backend::Backend& backend) override;
  void all_reduce_sum(std::vector<double>& values) override;
  void all_reduce_max(std::vector<double>& values) override;
  void broadcast(std::string& bytes, int root) override;
  void all_to_all(const Tensor& receive, const std::vector<Index>& receive_offsets,
                  const Tensor& send, const std::vector<Index>& send_offsets,
                  backend::Backend& backend) override;
  std::vector<std::string> all_gather(const std::string& bytes) override;
  void barrier() override { check(MPI_Barrier(comm_), "barrier"); }
  std::unique_ptr<Communicator> group(const std::vector<int>& members) override;

 private:
  void all_reduce_piece(const AllReduce& plan, const Tensor& piece, const Tensor& staging,
                        backend::Backend& backend);

  void find_ranks();

  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
};

void MpiCommunicator::find_ranks() {
  check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  MPI_Comm local = MPI_COMM_NULL;
  check(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local),
        "MPI_Comm_split_type");
  check(MPI_Comm_rank(local, &local_rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(local, &local_size_), "MPI_Comm_size");
  check(MPI_Comm_free(&local), "MPI_Comm_free");
}

std::unique_ptr<Communicator> MpiCommunicator::group(const std::vector<int>& members) {
  const int position = position_in(members, rank_, size_);
  MPI_Comm part = MPI_COMM_NULL;
  check(MPI_Comm_split(comm_, members.front(), position, &part), "MPI_Comm_split");
  return std::make_unique<MpiCommunicator>(part);
}

/// `staging` [ranks, share].
void MpiCommunicator::all_reduce_piece(const AllReduce& plan, const Tensor& piece,
                                       const Tensor& staging, backend::Backend& backend) {
  const Index share = plan.share_begin(1, piece.elements());
  const Index element = plan.element_bytes;
  const auto begin_of = [&](int rank) { return plan.share_begin(rank, piece.elements()); };
  std::vector<int> counts(static_cast<std::size_t>(size_));
  std::vector<int> places(counts.size());
  std::vector<int> received(counts.size());
  std::vector<int> staged(counts.size());
  const Index mine = begin_of(rank_ + 1) - begin_of(rank_);
  for (int rank = 0; rank < size_; ++rank) {
    const auto i = static_cast<std::size_t>(rank);
    counts[i] = static_cast<int>((begin_of(rank + 1) - begin_of(rank)) * element);
    places[i] = static_cast<int>(begin_of(rank) * element);
    received[i] = static_cast<int>(mine * element);
    staged[i] = static_cast<int>(rank * share * element);
  }
  check(MPI_Alltoallv(piece.raw(), counts.data(), places.data(), MPI_BYTE, staging.raw(),
                      received.data(), staged.data(), MPI_BYTE, comm_),
        "all-reduce (exchange)");
  const Tensor sum = piece.rows(begin_of(rank_), begin_of(rank_ + 1));
  const auto from = [&](int rank) { return staging.rows(rank * share, rank * share + mine); };
  backend.copy(sum, from(0));
  for (int rank = 1; rank < size_; ++rank) backend.accumulate(sum, from(rank));
  check(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, piece.raw(), counts.data(),
                       places.data(), MPI_BYTE, comm_),
        "all-reduce (gather)");
  traffic_[Collective::kAllReduce] += plan.bytes_sent(rank_, piece.elements());
}

void MpiCommunicator::all_reduce_sum(const Tensor& tensor, backend::Backend& backend) {
  if (tensor.rank() != 1 || !tensor.is_dense()) {
    throw base::InternalError("all_reduce_sum: the tensor is not a dense vector");
  }
  if (size_ == 1) return;
  const AllReduce plan(tensor.elements(), tensor.dtype(), size_);
  const Tensor staging =
      backend.allocate({plan.piece}, tensor.dtype(), backend::MemoryTag::kCommunication);
  for (Index begin = 0; begin < plan.elements; begin += plan.piece) {
    const Index end = std::min(begin + plan.piece, plan.elements);
    all_reduce_piece(plan, tensor.rows(begin, end), staging, backend);
  }
}

void MpiCommunicator::all_reduce_sum(std::vector<double>& values) {
  std::vector<double> all(values.size() * static_cast<std::size_t>(size_));
  check(MPI_Allgather(values.data(), static_cast<int>(values.size()), MPI_DOUBLE, all.data(),
                      static_cast<int>(values.size()), MPI_DOUBLE, comm_),
        "all-reduce of numbers");
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = 0;
    for (int rank = 0; rank < size_; ++rank) {
      values[i] += all[static_cast<std::size_t>(rank) * values.size() + i];
    }
  }
}

void MpiCommunicator::all_reduce_max(std::vector<double>& values) {
  check(MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_DOUBLE,
                      MPI_MAX, comm_),
        "all-reduce of numbers");
}

void MpiCommunicator::broadcast(std::string& bytes, int root) {
  std::uint64_t count = bytes.size();
  check(MPI_Bcast(&count, 1, MPI_UINT64_T, root, comm_), "broadcast");
  bytes.resize(count);
  constexpr std::uint64_t kMost = std::uint64_t{1} << 30U;  // MPI counts are ints
  for (std::uint64_t begin = 0; begin < count; begin += kMost) {
    const auto part = static_cast<int>(std::min(kMost, count - begin));
    check(MPI_Bcast(bytes.data() + begin, part, MPI_BYTE, root, comm_), "broadcast");
  }
  if (rank_ == root)
    traffic_[Collective::kBroadcast] += count * static_cast<std::uint64_t>(size_ - 1);
}

void MpiCommunicator::all_to_all(const Tensor& receive, const std::vector<Index>& receive_offsets,
                                 const Tensor& send, const std::vector<Index>& send_offsets,
                                 backend::Backend& backend) {
  const auto me = static_cast<std::size_t>(rank_);
  backend.copy(receive.rows(receive_offsets[me], receive_offsets[me + 1]),
               send.rows(send_offsets[me], send_offsets[me + 1]));
  std::vector<MPI_Request> requests;
  // MPI counts are ints: a longer message goes in pieces, which arrive in the order sent.
  const auto post = [&](const Tensor& tensor, const std::vector<Index>& offsets, int peer,
                        const auto& start) {
    const auto at = static_cast<std::size_t>(peer);
    const auto element = static_cast<Index>(base::size_of(tensor.dtype()));
    constexpr Index kMost = Index{1} << 30;
    for (Index begin = offsets[at] * element; begin < offsets[at + 1] * element; begin += kMost) {
      const auto bytes = static_cast<int>(std::min(kMost, offsets[at + 1] * element - begin));
      requests.emplace_back();
      check(start(static_cast<std::byte*>(tensor.raw()) + begin, bytes, peer, &requests.back()),
            "all-to-all");
    }
  };
  for (int step = 1; step < size_; ++step) {
    post(receive, receive_offsets, (rank_ + size_ - step) % size_,
         [this](void* data, int bytes, int peer, MPI_Request* request) {
           return MPI_Irecv(data, bytes, MPI_BYTE, peer, 0, comm_, request);
         });
  }
  for (int step = 1; step < size_; ++step) {
    post(send, send_offsets, (rank_ + step) % size_,
         [this](const void* data, int bytes, int peer, MPI_Request* request) {
           return MPI_Isend(data, bytes, MPI_BYTE, peer, 0, comm_, request);
         });
  }
  check(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE),
        "all-to-all");
  const Index mine = send_offsets[me + 1] - send_offsets[me];
  traffic_[Collective::kAllToAll] +=
      static_cast<std::uint64_t>(send_offsets.back() - mine) * base::size_of(send.dtype());
}

std::vector<std::string> MpiCommunicator::all_gather(const std::string& bytes) {
  std::vector<std::string> all(static_cast<std::size_t>(size_));
  all[static_cast<std::size_t>(rank_)] = bytes;
  for (int root = 0; root < size_; ++root) broadcast(all[static_cast<std::size_t>(root)], root);
  return all;
}

}  // namespace

std::unique_ptr<Communicator> make_world_communicator() {
  if (!launched_by_mpi()) return make_single_communicator();
  return std::make_unique<MpiCommunicator>();
}

std::string library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  const std::string whole(text.data(), static_cast<std::size_t>(length));
  return whole.substr(0, whole.find(','));  // the build's host and date follow
}

int launched_rank() noexcept {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  return 0;
}

void abort_world(int exit_code) noexcept {
  int initialised = 0;
  MPI_Initialized(&initialised);
  if (initialised == 0) return;
  int finalized = 0;
  MPI_Finalized(&finalized);
  int size = 1;
  if (finalized == 0) MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size > 1) MPI_Abort(MPI_COMM_WORLD, exit_code);
}

}  // namespace longspan::comm
