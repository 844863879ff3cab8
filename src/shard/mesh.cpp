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

Mesh::Mesh(comm::Communicator& world, SequenceDegrees degrees) : degrees_(degrees), world_(&world) {
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
  data_ = world.group("data", ranks_from(place, degrees.ranks(), ranks / degrees.ranks()));
}

AlignedGroups::AlignedGroups(comm::Communicator& world) {
  for (int size = 1; world.size() % size == 0; size *= 2) {
    sizes_.push_back(size);
    groups_.push_back(world.group("aligned", ranks_from(world.rank() / size * size, 1, size)));
    if (size > world.size() / 2) break;
  }
}

comm::Communicator& AlignedGroups::of_size(int size) const {
  const auto found = std::find(sizes_.begin(), sizes_.end(), size);
  if (found == sizes_.end()) {
    throw base::InternalError(fmt::format("there is no aligned group of {} ranks", size));
  }
  return *groups_[static_cast<std::size_t>(found - sizes_.begin())];
}

}  // namespace longspan::shard
