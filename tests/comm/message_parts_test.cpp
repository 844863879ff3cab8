#include "comm/message_parts.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "comm/mpi.h"
#include "comm/reduce_scatter.h"
#include "longspan/base/error.h"

// Run by ctest alone and under mpirun with 1 to 4 ranks.
using namespace longspan;
using backend::Index;
using backend::MemoryTag;
using backend::Tensor;
using base::DType;

namespace {

using Parts = std::vector<std::pair<std::size_t, std::size_t>>;  // (first byte, bytes)

Parts parts_of(std::size_t bytes, std::size_t longest) {
  Parts parts;
  comm::for_each_part(nullptr, bytes, longest, [&](std::byte* data, int count) {
    parts.emplace_back(reinterpret_cast<std::uintptr_t>(data), static_cast<std::size_t>(count));
  });
  return parts;
}

/// Its messages are so short that most go in parts, the last of which is shorter.
comm::Communicator& short_messages() {
  static const auto communicator = comm::make_world_communicator(1000);
  return *communicator;
}

float value_of(int rank, Index element) {
  return static_cast<float>(rank * 100000 + element % 99991);
}

Tensor allocate(backend::Backend& backend, Index elements) {
  return backend.allocate({elements}, DType::kFloat32, MemoryTag::kCommunication);
}

comm::Offsets uneven_offsets(int ranks) {
  comm::Offsets offsets{0};
  for (int rank = 0; rank < ranks; ++rank) offsets.push_back(offsets.back() + 700 * rank + 33);
  return offsets;
}

}  // namespace

TEST_CASE("parts of a message are its bytes, each once") {
  CHECK(parts_of(0, 10).empty());
  CHECK(parts_of(1, 10) == Parts{{0, 1}});
  CHECK(parts_of(10, 10) == Parts{{0, 10}});
  CHECK(parts_of(11, 10) == Parts{{0, 10}, {10, 1}});
  CHECK(parts_of(30, 10) == Parts{{0, 10}, {10, 10}, {20, 10}});
}

TEST_CASE("the counts of a huge message's parts are ints") {
  const std::size_t bytes = (std::size_t{5} << 31U) + 3;  // 10 GiB and 3 bytes
  std::size_t next = 0;
  for (const auto& [first, count] : parts_of(bytes, comm::kLongestMessage)) {
    REQUIRE(first == next);
    REQUIRE(count > 0);
    REQUIRE(count <= static_cast<std::size_t>(std::numeric_limits<int>::max()));
    next += count;
  }
  CHECK(next == bytes);
}

TEST_CASE("shares of more than 2^31 elements") {
  const Index elements = (Index{1} << 33) + 5;
  for (const int ranks : {1, 3, 8, 1000}) {
    const auto offsets = comm::even_offsets(elements, ranks);
    REQUIRE(offsets.size() == static_cast<std::size_t>(ranks) + 1);
    CHECK(offsets.front() == 0);
    CHECK(offsets.back() == elements);
    std::uint64_t shared = 0;
    std::uint64_t gathered = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto at = static_cast<std::size_t>(rank);
      REQUIRE(offsets[at] <= offsets[at + 1]);
      REQUIRE(offsets[at + 1] - offsets[at] <= (elements + ranks - 1) / ranks);
      shared += comm::bytes_to_share(offsets, rank, DType::kFloat64);
      gathered += comm::bytes_to_gather(offsets, rank, DType::kFloat64);
    }
    // Every share goes from or to all ranks but its own.
    const auto all = static_cast<std::uint64_t>(elements) * 8 * static_cast<unsigned>(ranks - 1);
    CHECK(shared == all);
    CHECK(gathered == all);
    const comm::ReduceScatter plan(offsets, DType::kFloat64);
    CHECK(plan.longest_share == (elements + ranks - 1) / ranks);
    CHECK(plan.slice * 8 <= comm::ReduceScatter::kSliceBytes);
    CHECK(plan.staging() == ranks * plan.slice);
  }
}

TEST_CASE("long messages travel whole in collectives") {
  auto& world = short_messages();
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 26U);
  const int me = world.rank();
  const auto offsets = uneven_offsets(world.size());
  const auto mine = static_cast<std::size_t>(me);
  const auto whole = allocate(*backend, offsets.back());
  for (Index i = offsets[mine]; i < offsets[mine + 1]; ++i) {
    whole.data<float>()[i] = value_of(me, i);
  }
  world.start_all_gather(whole, offsets, *backend)->wait();
  for (int rank = 0; rank < world.size(); ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    for (Index i = offsets[at]; i < offsets[at + 1]; ++i) {
      REQUIRE(whole.data<float>()[i] == value_of(rank, i));
    }
  }
  const auto sum = allocate(*backend, 10007);
  for (Index i = 0; i < sum.elements(); ++i) sum.data<float>()[i] = value_of(me, i);
  world.start_all_reduce_sum(sum, *backend)->wait();
  for (Index i = 0; i < sum.elements(); ++i) {
    float expected = value_of(0, i);
    for (int rank = 1; rank < world.size(); ++rank) expected += value_of(rank, i);
    REQUIRE(sum.data<float>()[i] == expected);
  }
  const auto texts = world.all_gather(std::string(12345, static_cast<char>('a' + me)));
  for (int rank = 0; rank < world.size(); ++rank) {
    CHECK(texts[static_cast<std::size_t>(rank)] ==
          std::string(12345, static_cast<char>('a' + rank)));
  }
}

TEST_CASE("long messages travel whole from rank to rank, in groups too") {
  std::vector<int> all;
  for (int rank = 0; rank < short_messages().size(); ++rank) all.push_back(rank);
  const auto group = short_messages().group("whole", all);
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 26U);
  const int ranks = group->size();
  const int me = group->rank();
  const auto offsets = comm::even_offsets(Index{3000} * ranks, ranks);
  const auto sent = allocate(*backend, offsets.back());
  const auto received = allocate(*backend, offsets.back());
  for (Index i = 0; i < sent.elements(); ++i) sent.data<float>()[i] = value_of(me, i);
  group->all_to_all(received, offsets, sent, offsets, *backend);
  for (Index i = 0; i < received.elements(); ++i) {
    const auto from = static_cast<int>(i / 3000);
    REQUIRE(received.data<float>()[i] == value_of(from, 3000 * me + i % 3000));
  }
  const int last = (me + ranks - 1) % ranks;
  group->start_send_receive(received, last, sent, (me + 1) % ranks, *backend)->wait();
  for (Index i = 0; i < received.elements(); ++i) {
    REQUIRE(received.data<float>()[i] == value_of(last, i));
  }
}

TEST_CASE("an operation that an exception passes by ends before its tensors are freed") {
  auto& world = short_messages();
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 26U);
  const auto offsets = comm::even_offsets(Index{300000} * world.size(), world.size());
  const auto mine = static_cast<std::size_t>(world.rank());
  const auto whole = allocate(*backend, offsets.back());
  for (Index i = offsets[mine]; i < offsets[mine + 1]; ++i) {
    whole.data<float>()[i] = value_of(world.rank(), i);
  }
  const auto fail = [&] {
    const auto pending = world.start_all_gather(whole, offsets, *backend);
    throw base::InternalError("meanwhile");
  };
  CHECK_THROWS_WITH(fail(), "meanwhile");
  for (int rank = 0; rank < world.size(); ++rank) {
    const Index begin = offsets[static_cast<std::size_t>(rank)];
    for (Index i = begin; i < begin + 300000; i += 999) {
      REQUIRE(whole.data<float>()[i] == value_of(rank, i));
    }
  }
}
