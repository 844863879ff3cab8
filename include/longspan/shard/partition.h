#pragma once

#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/shard/cover.h"

namespace longspan::shard {

/// How a flat axis of elements is shared out among ranks. The axis is made of units, one behind
/// another, and every unit is divided evenly, so that gathering one draws on all ranks alike. A
/// unit's pieces lie in rank order; each is the same multiple of kAlignment elements, but for the
/// last ones, which are shorter or empty; cuts may move them. A rank stores its own pieces densely,
/// one behind another.
class Partition {
 public:
  static constexpr Index kAlignment = 64;

  /// From element `begin` on, and as far as the next cut's, pieces begin at multiples of `each`
  /// elements from it alone: a piece that would begin elsewhere begins at such a place before.
  struct Cut {
    Index begin = 0;
    Index each = 1;  ///< 1: anywhere; else a multiple of kAlignment
  };

  /// `begins`: where each unit begins, a multiple of kAlignment, and the end of the last one.
  /// Throws InternalError when they do not rise from 0 so, `rank` is none of `ranks`, or `cuts`,
  /// unless there are none, do not rise from 0 or are not as described.
  Partition(std::vector<Index> begins, int ranks, int rank, const std::vector<Cut>& cuts = {});
  /// Of an axis on which element e of this one is at place(e), which rises: the same pieces. Units
  /// must begin at multiples of kAlignment there, too.
  Partition image(const std::function<Index(Index)>& place) const;

  int units() const { return static_cast<int>(begins_.size()) - 1; }
  int ranks() const { return ranks_; }
  int rank() const { return rank_; }  ///< this one
  Index elements() const { return begins_.back(); }

  /// Where a unit lies on the axis; likewise a rank's piece of it, and this rank's.
  Range unit(int number) const { return between(begins_, number); }
  Range piece(int unit, int rank) const {
    const Range pieces = between(pieces_[static_cast<std::size_t>(unit)], rank);
    const Index begin = this->unit(unit).begin;
    return {begin + pieces.begin, begin + pieces.end};
  }
  Range own(int unit) const { return piece(unit, rank_); }
  /// The pieces as collectives on the unit alone take them: counted from its begin.
  const comm::Offsets& offsets(int unit) const { return pieces_[static_cast<std::size_t>(unit)]; }

  /// Where this rank's piece of a unit lies in its storage, and how long that is.
  Range stored(int unit) const { return between(stored_, unit); }
  Index own_elements() const { return stored_.back(); }

 private:
  static Range between(const std::vector<Index>& bounds, int number) {
    const auto at = static_cast<std::size_t>(number);
    return {bounds[at], bounds[at + 1]};
  }

  Partition(int ranks, int rank) : ranks_(ranks), rank_(rank) {}
  void check_begins() const;
  void store();

  std::vector<Index> begins_;
  std::vector<comm::Offsets> pieces_;  ///< of each unit
  std::vector<Index> stored_;
  int ranks_;
  int rank_;
};

}  // namespace longspan::shard
