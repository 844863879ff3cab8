#pragma once

#include <memory>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/shard/token_layout.h"

namespace longspan::shard {

/// The ranks of a job as sequence groups of consecutive ranks (on one machine while they fit), each
/// of which shares the tokens of its rows. A sequence group is a grid: Ulysses groups of
/// neighbours, and rings across them. Every rank is in one of each. All groups are made at once,
/// when this is.
class Mesh {
 public:
  /// Throws InputError when the sequence groups do not divide the number of ranks. Called by every
  /// rank of the world, which must outlive this.
  Mesh(comm::Communicator& world, SequenceDegrees degrees);

  const SequenceDegrees& degrees() const { return degrees_; }
  comm::Communicator& sequence() const { return *sequence_; }
  comm::Communicator& ulysses() const { return *ulysses_; }
  comm::Communicator& ring() const { return *ring_; }

 private:
  SequenceDegrees degrees_;
  std::unique_ptr<comm::Communicator> sequence_;
  std::unique_ptr<comm::Communicator> ulysses_;
  std::unique_ptr<comm::Communicator> ring_;
};

/// 1, 2, 4, ... as far as `ranks` is a multiple of it: the sizes of aligned groups, which begin at
/// a multiple of their size. Plans of mixed lengths choose of them (FlexSP, Wang et al. 2025); a
/// world of 2^n ranks has 2^(n+1) - 1.
std::vector<int> aligned_sizes(int ranks);

/// Meshes of several sizes of sequence groups over the same ranks. All groups are made at once,
/// when this is, so that no step waits for one.
class Meshes {
 public:
  /// `degrees`: each of another number of ranks. Throws and is called as Mesh.
  Meshes(comm::Communicator& world, const std::vector<SequenceDegrees>& degrees);

  comm::Communicator& world() const { return *world_; }
  /// Whose sequence groups have so many ranks. Null for 1: a rank alone shares nothing. Throws
  /// InternalError for another number than was asked for.
  const Mesh* of_size(int ranks) const;

 private:
  comm::Communicator* world_;
  std::vector<std::unique_ptr<Mesh>> meshes_;
};

}  // namespace longspan::shard
