#include "longspan/shard/mesh.h"

#include <fmt/format.h>

#include <algorithm>

#include "longspan/base/error.h"

namespace longspan::shard {
namespace {

/// Ranks first, first + stride, ..., `count` of them.
std::vector<int> ranks_from(int first, int stride, int count) {
  std::vector<int> ranks;
  for (int i = 0; i < count; ++i) ranks.push_back(first + i * stride);
  return ranks;
}

}  // namespace

Mesh::Mesh(comm::Communicator& world, SequenceDegrees degrees) : degrees_(degrees) {
  const int ranks = world.size();
  if (degrees.ulysses < 1 || degrees.ring < 1 || ranks % degrees.ranks() != 0) {
    throw base::InputError(fmt::format("sequence groups of {} x {} ranks do not divide {} rank(s)",
                                       degrees.ulysses, degrees.ring, ranks));
  }
  const int me = world.rank();
  const int place = me % degrees.ranks();
  const int first = me - place;
  sequence_ = world.group("sequence", ranks_from(first, 1, degrees.ranks()));
  ulysses_ = world.group("Ulysses", ranks_from(me - place % degrees.ulysses, 1, degrees.ulysses));
  ring_ = world.group("ring",
                      ranks_from(first + place % degrees.ulysses, degrees.ulysses, degrees.ring));
}

std::vector<int> aligned_sizes(int ranks) {
  std::vector<int> sizes;
  for (int size = 1; ranks % size == 0; size *= 2) {
    sizes.push_back(size);
    if (size > ranks / 2) break;
  }
  return sizes;
}

Meshes::Meshes(comm::Communicator& world, const std::vector<SequenceDegrees>& degrees)
    : world_(&world) {
  for (const SequenceDegrees& one : degrees) {
    if (one.ranks() > 1) meshes_.push_back(std::make_unique<Mesh>(world, one));
  }
}

const Mesh* Meshes::of_size(int ranks) const {
  if (ranks == 1) return nullptr;
  const auto found = std::find_if(meshes_.begin(), meshes_.end(), [&](const auto& mesh) {
    return mesh->degrees().ranks() == ranks;
  });
  if (found == meshes_.end()) {
    throw base::InternalError(
        fmt::format("there is no mesh of sequence groups of {} ranks", ranks));
  }
  return found->get();
}

}  // namespace longspan::shard
