#include "longspan/comm/communicator.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/base/random.h"
#include "tests/comm/bench.h"

// Run by ctest alone and under mpirun with 1 to 4 ranks, on every bench of the program.
using namespace longspan;
using backend::Index;
using backend::MemoryTag;
using base::DType;
using longspan::testing::Bench;
using longspan::testing::benches;
using longspan::testing::values_of;
using longspan::testing::vector_of;

namespace {

const Bench& every_bench() {
  const std::size_t number = GENERATE(range(std::size_t{0}, benches().size()));
  return benches()[number];
}

/// What rank `rank` holds at `element`: any rank can compute any other's.
double value_of(int rank, Index element) {
  const base::RandomStream stream(1, base::Purpose::kTest, 0, static_cast<std::uint64_t>(rank));
  return stream.normal(static_cast<std::uint64_t>(element));
}

template <typename T>
std::vector<T> values_from(int rank, Index first, Index count) {
  std::vector<T> values;
  for (Index i = 0; i < count; ++i) values.push_back(static_cast<T>(value_of(rank, first + i)));
  return values;
}

/// Whether this is the ranks' sum: in rank order bit for bit, where the bench sums so.
template <typename T>
void require_sum(const Bench& bench, T sum, Index element) {
  T expected = static_cast<T>(value_of(0, element));
  double magnitudes = std::abs(value_of(0, element));
  for (int rank = 1; rank < bench.world->size(); ++rank) {
    expected += static_cast<T>(value_of(rank, element));
    magnitudes += std::abs(value_of(rank, element));
  }
  if (bench.sums_in_rank_order) {
    REQUIRE(sum == expected);
  } else {
    // Two orders of four summands at most differ by six roundings.
    const double roundoff = std::is_same_v<T, float> ? 0x1p-24 : 0x1p-53;
    REQUIRE(std::abs(static_cast<double>(sum - expected)) <= 6 * roundoff * magnitudes);
  }
}

template <typename T>
void check_all_reduce(const Bench& bench, Index elements, DType dtype) {
  comm::Communicator& world = *bench.world;
  const auto backend = bench.make_backend();
  const auto tensor = vector_of(*backend, values_from<T>(world.rank(), 0, elements), dtype);
  world.start_all_reduce_sum(tensor, *backend)->wait();
  const auto sums = values_of<T>(*backend, tensor);
  for (Index i = 0; i < elements; i += std::max<Index>(1, elements / 1000)) {
    require_sum(bench, sums[static_cast<std::size_t>(i)], i);
  }
  // The same bits everywhere.
  std::string bytes(reinterpret_cast<const char*>(sums.data()), sums.size() * sizeof(T));
  const std::string mine = bytes;
  world.broadcast(bytes, 0);
  CHECK(mine == bytes);
}

Index begin_of(const comm::Offsets& offsets, int rank) {
  return offsets[static_cast<std::size_t>(rank)];
}
Index size_of(const comm::Offsets& offsets, int rank) {
  return begin_of(offsets, rank + 1) - begin_of(offsets, rank);
}

/// A vector of which this rank has its share.
backend::Tensor own_share(backend::Backend& backend, const comm::Offsets& offsets, int rank,
                          Index salt) {
  std::vector<double> values(static_cast<std::size_t>(offsets.back()));
  for (Index i = begin_of(offsets, rank); i < begin_of(offsets, rank + 1); ++i) {
    values[static_cast<std::size_t>(i)] = value_of(rank, i + salt);
  }
  return vector_of(backend, values, DType::kFloat64, MemoryTag::kCommunication);
}

void require_shares(const std::vector<double>& values, const comm::Offsets& offsets, Index salt) {
  for (std::size_t rank = 0; rank + 1 < offsets.size(); ++rank) {
    for (Index i = offsets[rank]; i < offsets[rank + 1]; i += 11) {
      REQUIRE(values[static_cast<std::size_t>(i)] == value_of(static_cast<int>(rank), i + salt));
    }
  }
}

/// How much rank `from` sends to rank `to`: nothing, one element, or many.
Index message_size(int from, int to) { return Index{(from + 2 * to) % 3} * (1 + 5000 * from); }

comm::Offsets offsets_of(int ranks, const std::function<Index(int)>& size) {
  comm::Offsets offsets{0};
  for (int rank = 0; rank < ranks; ++rank) offsets.push_back(offsets.back() + size(rank));
  return offsets;
}

/// Every message of an all-to-all is told by its values.
void check_all_to_all(comm::Communicator& group, backend::Backend& backend) {
  const int me = group.rank();
  const auto out = offsets_of(group.size(), [&](int to) { return message_size(me, to); });
  const auto in = offsets_of(group.size(), [&](int from) { return message_size(from, me); });
  std::vector<float> sent;
  for (int to = 0; to < group.size(); ++to) {
    const auto values = values_from<float>(me, 10000 * to, size_of(out, to));
    sent.insert(sent.end(), values.begin(), values.end());
  }
  const auto send = vector_of(backend, sent, DType::kFloat32);
  const auto receive = backend.allocate({in.back()}, DType::kFloat32, MemoryTag::kGradients);
  group.all_to_all(receive, in, send, out, backend);
  const auto received = values_of<float>(backend, receive);
  for (int from = 0; from < group.size(); ++from) {
    const auto expected = values_from<float>(from, 10000 * me, size_of(in, from));
    REQUIRE(std::equal(expected.begin(), expected.end(), received.begin() + begin_of(in, from)));
  }
}

std::vector<int> all_ranks(const comm::Communicator& world) {
  std::vector<int> all(static_cast<std::size_t>(world.size()));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

}  // namespace

TEST_CASE("all-reduce sums at every length") {
  const Bench& bench = every_bench();
  INFO(bench.name);
  for (const Index elements : {0, 1, 2, 3, 1000, 262144, 262145, 1500001}) {
    check_all_reduce<float>(bench, elements, DType::kFloat32);
  }
  check_all_reduce<double>(bench, 777, DType::kFloat64);
}

TEST_CASE("all-reduce counts what a rank sends") {
  const Bench& bench = every_bench();
  comm::Communicator& world = *bench.world;
  const auto backend = bench.make_backend();
  const Index elements = 12 * 1000;  // divides by 1, 2, 3 and 4 ranks
  const auto tensor = backend->allocate({elements}, DType::kFloat32, MemoryTag::kGradients);
  backend->fill(tensor, 1.0);
  const auto before = world.traffic()[comm::Collective::kAllReduce];
  world.start_all_reduce_sum(tensor, *backend)->wait();
  const auto ranks = static_cast<std::uint64_t>(world.size());
  const std::uint64_t bytes = 4 * static_cast<std::uint64_t>(elements);
  CHECK(world.traffic()[comm::Collective::kAllReduce] - before == 2 * bytes * (ranks - 1) / ranks);
  CHECK(backend->ledger().live(MemoryTag::kCommunication) == 0);
}

TEST_CASE("reduce-scatter sums, whatever the shares") {
  const Bench& bench = every_bench();
  INFO(bench.name);
  comm::Communicator& world = *bench.world;
  const auto backend = bench.make_backend();
  const bool even = GENERATE(false, true);
  for (const Index most : {0, 1, 1000, 300000}) {
    // The first rank gets nothing, the others ever more; or all the same.
    const auto offsets = offsets_of(
        world.size(), [&](int rank) { return even || world.size() == 1 ? most : most * rank; });
    const Index begin = begin_of(offsets, world.rank());
    const Index count = size_of(offsets, world.rank());
    const auto whole =
        vector_of(*backend, values_from<float>(world.rank(), 0, offsets.back()), DType::kFloat32);
    const bool in_place = most == 1000;
    const auto part = in_place ? whole.rows(begin, begin + count)
                               : backend->allocate({count}, DType::kFloat32, MemoryTag::kGradients);
    const auto before = world.traffic()[comm::Collective::kReduceScatter];
    world.start_reduce_scatter_sum(part, whole, offsets, *backend)->wait();
    if (world.size() > 1) {
      CHECK(world.traffic()[comm::Collective::kReduceScatter] - before ==
            4 * static_cast<std::uint64_t>(offsets.back() - count));
    }
    const auto sums = values_of<float>(*backend, part);
    for (Index i = 0; i < count; i += std::max<Index>(1, count / 1000)) {
      require_sum(bench, sums[static_cast<std::size_t>(i)], begin + i);
    }
  }
}

TEST_CASE("sums go on beside the device's other work") {
  const Bench& bench = every_bench();
  INFO(bench.name);
  comm::Communicator& world = *bench.world;
  const auto backend = bench.make_backend();
  const Index elements = 30000;
  const auto offsets = comm::even_offsets(elements, world.size());
  const Index begin = begin_of(offsets, world.rank());
  const Index end = begin + size_of(offsets, world.rank());
  const auto make = [&] {
    return vector_of(*backend, values_from<float>(world.rank(), 0, elements), DType::kFloat32);
  };
  const auto whole = make();
  const auto reduced = make();
  const auto other = make();
  const auto scattered =
      world.start_reduce_scatter_sum(whole.rows(begin, end), whole, offsets, *backend);
  const auto all = world.start_all_reduce_sum(reduced, *backend);
  for (int i = 0; i < 20; ++i) backend->fill(other, i);
  scattered->wait();
  all->wait();
  const auto part = values_of<float>(*backend, whole.rows(begin, end));
  const auto sums = values_of<float>(*backend, reduced);
  for (Index i = begin; i < end; i += 100) {
    require_sum(bench, part[static_cast<std::size_t>(i - begin)], i);
    require_sum(bench, sums[static_cast<std::size_t>(i)], i);
  }
  CHECK(values_of<float>(*backend, other).back() == 19.0F);
}

TEST_CASE("all-gather fills every rank's share; two may be under way") {
  const Bench& bench = every_bench();
  INFO(bench.name);
  comm::Communicator& world = *bench.world;
  const auto backend = bench.make_backend();
  const Index more = GENERATE(0, 1000);  // for each rank
  const auto offsets =
      offsets_of(world.size(), [&](int rank) { return more * rank + (more == 0 ? 77 : 0); });
  const auto first = own_share(*backend, offsets, world.rank(), 0);
  const auto second = own_share(*backend, offsets, world.rank(), 1);
  const auto before = world.traffic()[comm::Collective::kAllGather];
  const auto pending = world.start_all_gather(first, offsets, *backend);
  const auto other = world.start_all_gather(second, offsets, *backend);
  other->wait();
  pending->wait();
  require_shares(values_of<double>(*backend, first), offsets, 0);
  require_shares(values_of<double>(*backend, second), offsets, 1);
  if (world.size() > 1) {
    CHECK(world.traffic()[comm::Collective::kAllGather] - before ==
          16 * static_cast<std::uint64_t>(size_of(offsets, world.rank()) * (world.size() - 1)));
  }
}

TEST_CASE("all-to-all brings every message to its place, empty ones too") {
  const Bench& bench = every_bench();
  INFO(bench.name);
  const auto backend = bench.make_backend();
  check_all_to_all(*bench.world, *backend);
}

TEST_CASE("neighbours exchange tensors of different lengths, in the order started") {
  const Bench& bench = every_bench();
  INFO(bench.name);
  comm::Communicator& world = *bench.world;
  const auto backend = bench.make_backend();
  const int ranks = world.size();
  const int me = world.rank();
  const int next = (me + 1) % ranks;
  const int last = (me + ranks - 1) % ranks;
  const auto size = [](int rank, Index salt) { return 100 * rank + salt; };
  const auto make = [&](Index salt) {
    return backend->allocate({size(last, salt)}, DType::kFloat32, MemoryTag::kCommunication);
  };
  const auto filled = [&](Index salt) {
    return vector_of(*backend, values_from<float>(me, salt, size(me, salt)), DType::kFloat32);
  };
  const auto one = make(0);
  const auto two = make(5);
  const auto pending = world.start_send_receive(one, last, filled(0), next, *backend);
  world.start_send_receive(two, last, filled(5), next, *backend)->wait();
  pending->wait();
  CHECK(values_of<float>(*backend, one) == values_from<float>(last, 0, size(last, 0)));
  CHECK(values_of<float>(*backend, two) == values_from<float>(last, 5, size(last, 5)));
}

TEST_CASE("a tensor may be used again once its operation has been waited for") {
  const Bench& bench = every_bench();
  INFO(bench.name);
  comm::Communicator& world = *bench.world;
  const auto backend = bench.make_backend();
  const int next = (world.rank() + 1) % world.size();
  const int last = (world.rank() + world.size() - 1) % world.size();
  const Index elements = 20000;
  auto here = vector_of(*backend, values_from<float>(world.rank(), 0, elements), DType::kFloat32);
  const auto sum = backend->allocate({elements}, DType::kFloat32, MemoryTag::kGradients);
  backend->zero(sum);
  // As a ring goes round: send and use what is here, then overwrite and free it.
  for (int step = 0; step < world.size(); ++step) {
    const auto coming = backend->allocate({elements}, DType::kFloat32, MemoryTag::kCommunication);
    backend->fill(coming, -1.0);  // must not come after what arrives
    const auto pending = world.start_send_receive(coming, last, here, next, *backend);
    backend->accumulate(sum, here);
    pending->wait();
    backend->fill(here, 1e30);
    here = coming;
  }
  CHECK(values_of<float>(*backend, here) == values_from<float>(world.rank(), 0, elements));
  const auto sums = values_of<float>(*backend, sum);
  for (Index i = 0; i < elements; i += 7) {
    float expected = 0;
    for (int step = 0; step < world.size(); ++step) {
      const int rank = (world.rank() - step + world.size()) % world.size();
      expected += static_cast<float>(value_of(rank, i));
    }
    REQUIRE(sums[static_cast<std::size_t>(i)] == expected);
  }
}

TEST_CASE("an operation that an exception passes by leaves freed memory alone") {
  const Bench& bench = every_bench();
  INFO(bench.name);
  comm::Communicator& world = *bench.world;
  const auto backend = bench.make_backend();
  const auto offsets = comm::even_offsets(Index{100000} * world.size(), world.size());
  const auto fail = [&] {
    const auto whole = own_share(*backend, offsets, world.rank(), 0);
    const auto pending = world.start_all_gather(whole, offsets, *backend);
    throw base::InternalError("meanwhile");
  };
  CHECK_THROWS_WITH(fail(), "meanwhile");
  const auto after = backend->allocate({offsets.back()}, DType::kFloat64, MemoryTag::kGradients);
  backend->fill(after, 7.0);
  world.barrier();
  const auto values = values_of<double>(*backend, after);
  CHECK(std::count(values.begin(), values.end(), 7.0) == static_cast<Index>(values.size()));
}

TEST_CASE("tensors that break an operation's contract are refused before anything is sent") {
  const Bench& bench = every_bench();
  INFO(bench.name);
  comm::Communicator& world = *bench.world;
  if (world.size() == 1) return;
  const auto backend = bench.make_backend();
  const auto vector = [&](Index elements) {
    return backend->allocate({elements}, DType::kFloat32, MemoryTag::kGradients);
  };
  const auto offsets = comm::even_offsets(4 * world.size(), world.size());
  const auto whole = vector(4 * world.size());
  CHECK_THROWS_AS(world.start_reduce_scatter_sum(vector(3), whole, offsets, *backend),
                  base::InternalError);
  CHECK_THROWS_AS(world.start_all_gather(whole, {0, 4 * world.size()}, *backend),
                  base::InternalError);
  CHECK_THROWS_AS(world.start_all_gather(vector(5), offsets, *backend), base::InternalError);
  const int me = world.rank();
  const int next = (me + 1) % world.size();
  CHECK_THROWS_AS(world.start_send_receive(whole, me, whole, next, *backend), base::InternalError);
  const auto square = backend->allocate({2, 2}, DType::kFloat32, MemoryTag::kGradients);
  CHECK_THROWS_AS(world.start_send_receive(square, next, square, next, *backend),
                  base::InternalError);
  world.barrier();
}

TEST_CASE("groups have collectives of their own") {
  const Bench& bench = every_bench();
  INFO(bench.name);
  comm::Communicator& world = *bench.world;
  const auto backend = bench.make_backend();
  // Even and odd ranks, the odd ones backwards.
  std::vector<int> members;
  for (int rank = world.rank() % 2; rank < world.size(); rank += 2) members.push_back(rank);
  if (world.rank() % 2 == 1) std::reverse(members.begin(), members.end());
  const auto group = world.group("parity", members);
  CHECK(group->name() == world.name());
  CHECK(members[static_cast<std::size_t>(group->rank())] == world.rank());
  check_all_to_all(*group, *backend);
  const Index elements = 1001;
  const auto tensor =
      vector_of(*backend, values_from<double>(world.rank(), 0, elements), DType::kFloat64);
  group->start_all_reduce_sum(tensor, *backend)->wait();
  const auto sums = values_of<double>(*backend, tensor);
  for (Index i = 0; i < elements; ++i) {
    double expected = 0;
    for (const int rank : members) expected += value_of(rank, i);
    REQUIRE(sums[static_cast<std::size_t>(i)] == Approx(expected).margin(1e-12));
  }
  const auto inner = group->group("alone", {group->rank()});
  check_all_to_all(*inner, *backend);
}

TEST_CASE("what a group sends counts for its world") {
  const Bench& bench = every_bench();
  comm::Communicator& world = *bench.world;
  const auto group = world.group("whole", all_ranks(world));
  const auto backend = bench.make_backend();
  const auto tensor = backend->allocate({100}, DType::kFloat32, MemoryTag::kGradients);
  backend->zero(tensor);
  const auto before = world.traffic().total();
  group->start_all_reduce_sum(tensor, *backend)->wait();
  CHECK((world.traffic().total() > before) == (world.size() > 1));
  backend->synchronize();
}

TEST_CASE("sums and maxima of host numbers") {
  comm::Communicator& world = *every_bench().world;
  std::vector<double> values = {1.0, static_cast<double>(world.rank()), 1e100};
  world.all_reduce_sum(values);
  const double ranks = world.size();
  CHECK(values[0] == ranks);
  CHECK(values[1] == ranks * (ranks - 1) / 2);
  CHECK(values[2] == Approx(1e100 * ranks));
  std::vector<double> maxima = {-static_cast<double>(world.rank()),
                                static_cast<double>(world.rank())};
  world.all_reduce_max(maxima);
  CHECK(maxima[0] == 0.0);
  CHECK(maxima[1] == ranks - 1);
}

TEST_CASE("bytes travel whole") {
  comm::Communicator& world = *every_bench().world;
  const int last = world.size() - 1;
  std::string text = world.rank() == last ? std::string("from\0last", 9) : "mine";
  world.broadcast(text, last);
  CHECK(text == std::string("from\0last", 9));
  std::string empty = world.rank() == 0 ? "" : "not empty";
  world.broadcast(empty, 0);
  CHECK(empty.empty());
  const auto all = world.all_gather(std::string(static_cast<std::size_t>(world.rank()), 'x'));
  REQUIRE(all.size() == static_cast<std::size_t>(world.size()));
  for (std::size_t rank = 0; rank < all.size(); ++rank) CHECK(all[rank].size() == rank);
}

TEST_CASE("an error of one rank becomes every rank's") {
  comm::Communicator& world = *every_bench().world;
  const int last = world.size() - 1;
  try {
    comm::run_agreed(world, [&] {
      if (world.rank() == last) throw base::InputError("the last rank's trouble");
    });
    FAIL("the error was lost");
  } catch (const base::Error& error) {
    CHECK(error.agreed());
    CHECK(error.code() == base::ExitCode::kBadInput);
    CHECK_THAT(error.what(), Catch::Contains("the last rank's trouble"));
    if (last > 0) CHECK_THAT(error.what(), Catch::Contains("rank " + std::to_string(last)));
  }
  CHECK_NOTHROW(comm::run_agreed(world, [] {}));
}

TEST_CASE("ranks know their place") {
  comm::Communicator& world = *every_bench().world;
  CHECK(world.rank() >= 0);
  CHECK(world.rank() < world.size());
  CHECK(world.local_size() <= world.size());
  CHECK(comm::launched_rank() == world.rank());
}
