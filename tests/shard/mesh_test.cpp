#include "longspan/shard/mesh.h"

#include <catch2/catch.hpp>
#include <string>

#include "longspan/base/error.h"
#include "longspan/comm/dry.h"

namespace longspan::shard {
namespace {

comm::Communicator& world() {
  static const std::unique_ptr<comm::Communicator> kWorld = comm::make_world_communicator();
  return *kWorld;
}

/// The world's ranks of a group, in its order, gathered through the group itself.
std::vector<int> members_of(comm::Communicator& group) {
  std::vector<int> members;
  for (const std::string& rank : group.all_gather(std::to_string(world().rank()))) {
    members.push_back(std::stoi(rank));
  }
  return members;
}

TEST_CASE("mesh: sequence groups are neighbours") {
  for (int degree = 1; degree <= world().size(); ++degree) {
    INFO("degree " << degree);
    if (world().size() % degree != 0) {
      CHECK_THROWS_AS(Mesh(world(), {degree, 1}), base::InputError);
      CHECK_THROWS_AS(Mesh(world(), {1, degree}), base::InputError);
      continue;
    }
    const Mesh mesh(world(), {1, degree});
    const int me = world().rank();
    const auto sequence = members_of(mesh.sequence());
    REQUIRE(static_cast<int>(sequence.size()) == degree);
    for (int i = 0; i < degree; ++i) {
      CHECK(sequence[static_cast<std::size_t>(i)] == me / degree * degree + i);
    }
    CHECK(mesh.sequence().rank() == me % degree);
    // Sums stay within a group.
    std::vector<double> sum{1.0 + me};
    mesh.sequence().all_reduce_sum(sum);
    double expected = 0;
    for (const int rank : sequence) expected += 1.0 + rank;
    CHECK(sum[0] == expected);
  }
  CHECK_THROWS_AS(Mesh(world(), {0, 1}), base::InputError);
}

TEST_CASE("mesh: a sequence group is Ulysses groups of neighbours and rings across them") {
  for (int ulysses = 1; ulysses <= world().size(); ++ulysses) {
    if (world().size() % ulysses != 0) continue;
    const int ring = world().size() / ulysses;
    const Mesh mesh(world(), {ulysses, ring});
    const auto neighbours = members_of(mesh.ulysses());
    const auto around = members_of(mesh.ring());
    REQUIRE(static_cast<int>(neighbours.size()) == ulysses);
    REQUIRE(static_cast<int>(around.size()) == ring);
    CHECK(neighbours.front() == world().rank() / ulysses * ulysses);
    CHECK(neighbours.back() == neighbours.front() + ulysses - 1);
    CHECK(around.front() == world().rank() % ulysses);
    CHECK(around.back() == around.front() + (ring - 1) * ulysses);
    CHECK(mesh.sequence().rank() == mesh.ring().rank() * ulysses + mesh.ulysses().rank());
  }
}

std::vector<SequenceDegrees> rings_of(const std::vector<int>& sizes) {
  std::vector<SequenceDegrees> degrees;
  for (const int size : sizes) degrees.push_back({1, size});
  return degrees;
}

TEST_CASE("mesh: aligned groups of every power of two that divides") {
  CHECK(aligned_sizes(1) == std::vector<int>{1});
  CHECK(aligned_sizes(3) == std::vector<int>{1});
  CHECK(aligned_sizes(4) == std::vector<int>{1, 2, 4});
  CHECK(aligned_sizes(12) == std::vector<int>{1, 2, 4});
  const std::vector<int> sizes = aligned_sizes(world().size());
  const Meshes meshes(world(), rings_of(sizes));
  for (const int size : sizes) {
    if (size == 1) continue;
    const auto members = members_of(meshes.of_size(size)->sequence());
    REQUIRE(static_cast<int>(members.size()) == size);
    CHECK(members.front() == world().rank() / size * size);
    CHECK(members.back() == members.front() + size - 1);
  }
  CHECK(meshes.of_size(1) == nullptr);
  CHECK_THROWS_AS(meshes.of_size(3), base::InternalError);
}

TEST_CASE("mesh: a dry world of any size has the same groups, on their machines") {
  backend::DryBackend dry(backend::DeviceProfile::load("h200"), 1);  // eight to a machine
  comm::DryCommunicator ranks(37, 64, dry);
  CHECK(ranks.local_rank() == 5);
  CHECK(ranks.local_size() == 8);
  const Mesh mesh(ranks, {8, 2});
  CHECK(mesh.sequence().size() == 16);
  CHECK(mesh.sequence().rank() == 5);
  CHECK(mesh.sequence().local_size() == 8);
  CHECK(mesh.ulysses().size() == 8);
  CHECK(mesh.ulysses().rank() == 5);
  CHECK(mesh.ulysses().local_size() == 8);
  CHECK(mesh.ring().size() == 2);
  CHECK(mesh.ring().rank() == 0);
  CHECK(mesh.ring().local_size() == 1);
  const Meshes meshes(ranks, rings_of(aligned_sizes(64)));
  CHECK(meshes.of_size(8)->sequence().local_size() == 8);
  CHECK(meshes.of_size(64)->sequence().rank() == 37);
}

TEST_CASE("mesh: a group that its caller is not in is refused") {
  CHECK_THROWS_AS(world().group("wrong", {}), base::InternalError);
  CHECK_THROWS_AS(world().group("wrong", {world().rank(), world().rank()}), base::InternalError);
  CHECK_THROWS_AS(world().group("wrong", {world().rank(), world().size()}), base::InternalError);
}

}  // namespace
}  // namespace longspan::shard
