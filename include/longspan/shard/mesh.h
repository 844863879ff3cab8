#pragma once

#include <memory>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/shard/token_layout.h"

namespace longspan::shard {

/// The ranks of a job as a grid: sequence groups of consecutive ranks (on one machine while they
/// fit) share the tokens of their rows; the ranks at one place of all sequence groups make a data
/// group. A sequence group is a grid itself: Ulysses groups of neighbours, and rings across them.
/// Every rank is in one of each. All groups are made at once, when this is.
class Mesh {
 public:
  /// Throws InputError when the sequence groups do not divide the number of ranks. Called by every
  /// rank of the world, which must outlive this.
  Mesh(comm::Communicator& world, SequenceDegrees degrees);

  const SequenceDegrees& degrees() const { return degrees_; }
  comm::Communicator& world() const { return *world_; }
  comm::Communicator& sequence() const { return *sequence_; }
  comm::Communicator& ulysses() const { return *ulysses_; }
  comm::Communicator& ring() const { return *ring_; }
  comm::Communicator& data() const { return *data_; }

 private:
  SequenceDegrees degrees_;
  comm::Communicator* world_;
  std::unique_ptr<comm::Communicator> sequence_;
  std::unique_ptr<comm::Communicator> ulysses_;
  std::unique_ptr<comm::Communicator> ring_;
  std::unique_ptr<comm::Communicator> data_;
};

/// Groups of 1, 2, 4, ... consecutive ranks, each beginning at a multiple of its size, as far as
/// the number of ranks is a multiple of it: of which plans of mixed lengths choose (FlexSP, Wang et
/// al. 2025). A rank is in one of each size.
class AlignedGroups {
 public:
  explicit AlignedGroups(comm::Communicator& world);

  /// 1, 2, 4, ...
  const std::vector<int>& sizes() const { return sizes_; }
  /// This rank's group of that size. Throws InternalError for another size.
  comm::Communicator& of_size(int size) const;

 private:
  std::vector<int> sizes_;
  std::vector<std::unique_ptr<comm::Communicator>> groups_;
};

}  // namespace longspan::shard
