#include "longspan/comm/communicator.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/base/random.h"

// Run by ctest alone and under mpirun with 1 to 4 ranks.
using namespace longspan;
using backend::Index;
using backend::MemoryTag;
using base::DType;

namespace {

/// One for the process: MPI is started once and finalised at exit.
comm::Communicator& world() {
  static const auto communicator = comm::make_world_communicator();
  return *communicator;
}

/// What rank `rank` holds at `element`: any rank can compute any other's.
double value_of(int rank, Index element) {
  const base::RandomStream stream(1, base::Purpose::kTest, 0, static_cast<std::uint64_t>(rank));
  return stream.normal(static_cast<std::uint64_t>(element));
}

template <typename T>
void check_all_reduce(Index elements, DType dtype) {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  const auto tensor = backend->allocate({elements}, dtype, MemoryTag::kGradients);
  for (Index i = 0; i < elements; ++i) {
    tensor.data<T>()[i] = static_cast<T>(value_of(world().rank(), i));
  }
  world().all_reduce_sum(tensor, *backend);
  for (Index i = 0; i < elements; i += std::max<Index>(1, elements / 1000)) {
    T expected = static_cast<T>(value_of(0, i));  // in rank order, so bit for bit
    for (int rank = 1; rank < world().size(); ++rank) {
      expected += static_cast<T>(value_of(rank, i));
    }
    REQUIRE(tensor.data<T>()[i] == expected);
  }
}

}  // namespace

TEST_CASE("all-reduce sums in rank order at every length") {
  for (const Index elements : {0, 1, 2, 3, 1000, 262144, 262145, 1500001}) {
    check_all_reduce<float>(elements, DType::kFloat32);
  }
  check_all_reduce<double>(777, DType::kFloat64);
}

TEST_CASE("all-reduce counts what a rank sends") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  const Index elements = 12 * 1000;  // divides by 1, 2, 3 and 4 ranks
  const auto tensor = backend->allocate({elements}, DType::kFloat32, MemoryTag::kGradients);
  backend->fill(tensor, 1.0);
  const auto before = world().traffic()[longspan::comm::Collective::kAllReduce];
  world().all_reduce_sum(tensor, *backend);
  const auto ranks = static_cast<std::uint64_t>(world().size());
  const std::uint64_t bytes = 4 * static_cast<std::uint64_t>(elements);
  CHECK(world().traffic()[longspan::comm::Collective::kAllReduce] - before ==
        2 * bytes * (ranks - 1) / ranks);
  CHECK(backend->ledger().live(MemoryTag::kCommunication) == 0);
}

TEST_CASE("reduce-scatter sums in rank order, whatever the shares") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  for (const Index most : {0, 1, 1000, 300000}) {
    comm::Offsets offsets{0};  // the first rank gets nothing, the others ever more
    for (int rank = 0; rank < world().size(); ++rank) {
      offsets.push_back(offsets.back() + (world().size() == 1 ? most : most * rank));
    }
    const Index begin = offsets[static_cast<std::size_t>(world().rank())];
    const Index end = offsets[static_cast<std::size_t>(world().rank()) + 1];
    const auto whole = backend->allocate({offsets.back()}, DType::kFloat32, MemoryTag::kGradients);
    for (Index i = 0; i < offsets.back(); ++i) {
      whole.data<float>()[i] = static_cast<float>(value_of(world().rank(), i));
    }
    const bool in_place = most == 1000;
    const auto part =
        in_place ? whole.rows(begin, end)
                 : backend->allocate({end - begin}, DType::kFloat32, MemoryTag::kGradients);
    const auto before = world().traffic()[comm::Collective::kReduceScatter];
    world().reduce_scatter_sum(part, whole, offsets, *backend);
    if (world().size() > 1) {
      CHECK(world().traffic()[comm::Collective::kReduceScatter] - before ==
            4 * static_cast<std::uint64_t>(offsets.back() - (end - begin)));
    }
    for (Index i = begin; i < end; i += std::max<Index>(1, (end - begin) / 1000)) {
      auto expected = static_cast<float>(value_of(0, i));
      for (int rank = 1; rank < world().size(); ++rank) {
        expected += static_cast<float>(value_of(rank, i));
      }
      REQUIRE(part.data<float>()[i - begin] == expected);
    }
  }
}

TEST_CASE("all-gather fills every rank's share; two may be under way") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  const int ranks = world().size();
  comm::Offsets offsets{0};
  for (int rank = 0; rank < ranks; ++rank) offsets.push_back(offsets.back() + 1000 * rank + 7);
  const auto fill = [&](Index salt) {
    const auto whole =
        backend->allocate({offsets.back()}, DType::kFloat64, MemoryTag::kCommunication);
    backend->zero(whole);
    const auto me = static_cast<std::size_t>(world().rank());
    for (Index i = offsets[me]; i < offsets[me + 1]; ++i) {
      whole.data<double>()[i] = value_of(world().rank(), i + salt);
    }
    return whole;
  };
  const auto first = fill(0);
  const auto second = fill(1);
  const auto pending = world().start_all_gather(first, offsets, *backend);
  const auto other = world().start_all_gather(second, offsets, *backend);
  other->wait();
  pending->wait();
  for (int rank = 0; rank < ranks; ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    for (Index i = offsets[at]; i < offsets[at + 1]; i += 11) {
      REQUIRE(first.data<double>()[i] == value_of(rank, i));
      REQUIRE(second.data<double>()[i] == value_of(rank, i + 1));
    }
  }
}

TEST_CASE("neighbours exchange tensors of different lengths, in the order started") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  const int ranks = world().size();
  const int me = world().rank();
  const int next = (me + 1) % ranks;
  const int last = (me + ranks - 1) % ranks;
  const auto of = [&](int rank, Index salt, bool filled) {
    const auto tensor =
        backend->allocate({100 * rank + salt}, DType::kFloat32, MemoryTag::kCommunication);
    for (Index i = 0; filled && i < tensor.elements(); ++i) {
      tensor.data<float>()[i] = static_cast<float>(value_of(rank, i + salt));
    }
    return tensor;
  };
  const auto one = of(last, 0, false);
  const auto two = of(last, 5, false);
  const auto pending = world().start_send_receive(one, last, of(me, 0, true), next, *backend);
  world().start_send_receive(two, last, of(me, 5, true), next, *backend)->wait();
  pending->wait();
  for (Index i = 0; i < one.elements(); ++i) {
    REQUIRE(one.data<float>()[i] == static_cast<float>(value_of(last, i)));
  }
  for (Index i = 0; i < two.elements(); ++i) {
    REQUIRE(two.data<float>()[i] == static_cast<float>(value_of(last, i + 5)));
  }
}

TEST_CASE("what a group sends counts for its world") {
  const auto group = world().group("whole", [] {
    std::vector<int> all;
    for (int rank = 0; rank < world().size(); ++rank) all.push_back(rank);
    return all;
  }());
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 20U);
  const auto tensor = backend->allocate({100}, DType::kFloat32, MemoryTag::kGradients);
  backend->zero(tensor);
  const auto before = world().traffic().total();
  group->all_reduce_sum(tensor, *backend);
  CHECK((world().traffic().total() > before) == (world().size() > 1));
}

TEST_CASE("sums and maxima of host numbers") {
  std::vector<double> values = {1.0, static_cast<double>(world().rank()), 1e100};
  world().all_reduce_sum(values);
  const double ranks = world().size();
  CHECK(values[0] == ranks);
  CHECK(values[1] == ranks * (ranks - 1) / 2);
  CHECK(values[2] == Approx(1e100 * ranks));
  std::vector<double> maxima = {-static_cast<double>(world().rank()),
                                static_cast<double>(world().rank())};
  world().all_reduce_max(maxima);
  CHECK(maxima[0] == 0.0);
  CHECK(maxima[1] == ranks - 1);
}

TEST_CASE("bytes travel whole") {
  const int last = world().size() - 1;
  std::string text = world().rank() == last ? std::string("from\0last", 9) : "mine";
  world().broadcast(text, last);
  CHECK(text == std::string("from\0last", 9));
  std::string empty = world().rank() == 0 ? "" : "not empty";
  world().broadcast(empty, 0);
  CHECK(empty.empty());
  const auto all = world().all_gather(std::string(static_cast<std::size_t>(world().rank()), 'x'));
  REQUIRE(all.size() == static_cast<std::size_t>(world().size()));
  for (std::size_t rank = 0; rank < all.size(); ++rank) CHECK(all[rank].size() == rank);
}

TEST_CASE("an error of one rank becomes every rank's") {
  const int last = world().size() - 1;
  try {
    comm::run_agreed(world(), [&] {
      if (world().rank() == last) throw base::InputError("the last rank's trouble");
    });
    FAIL("the error was lost");
  } catch (const base::Error& error) {
    CHECK(error.agreed());
    CHECK(error.code() == base::ExitCode::kBadInput);
    CHECK_THAT(error.what(), Catch::Contains("the last rank's trouble"));
    if (last > 0) CHECK_THAT(error.what(), Catch::Contains("rank " + std::to_string(last)));
  }
  CHECK_NOTHROW(comm::run_agreed(world(), [] {}));
}

TEST_CASE("ranks know their place") {
  CHECK(world().rank() >= 0);
  CHECK(world().rank() < world().size());
  CHECK(world().local_size() <= world().size());
  CHECK(comm::launched_rank() == world().rank());
}
