#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/train/clip_job.h"
#include "longspan/train/clip_objective.h"

namespace longspan::train {

/// The clips of each of a rank's passes, which it shares with its group; none of them: a pass that
/// is there because other groups have one.
using ClipPasses = std::vector<std::vector<ClipSample>>;

/// How ranks share the work of a job of clips: `data` groups take micro-batches in turn, and the
/// ranks of each share the clips of one.
struct ClipRanks {
  int sequence = 1;  ///< of a group, which are neighbours
  int data = 1;

  /// Which of so many micro-batches group `group` takes; beyond the last: one without clips, so
  /// that all groups have as many.
  std::vector<std::int64_t> micro_batches(std::int64_t count, int group) const;
  /// These of a step's, or of a validation's.
  ClipPasses passes(const std::vector<std::vector<ClipSample>>& micro_batches, int group) const;
};

/// What the job says about so many ranks. Throws InputError when they cannot train it.
ClipRanks clip_ranks(const ClipJob& job, int ranks);

/// What full micro-batches of clips of one extent have, by its name; "" where ranks share none, or
/// in a way that has no placements.
std::string clip_placement(const ClipJob& job, const data::ClipShape& shape,
                           const ClipRanks& layout);
/// Of how many extents it is which.
using PlacementCounts = std::map<std::string, int>;
PlacementCounts clip_placements(const ClipJob& job, const std::vector<data::ClipShape>& shapes,
                                const ClipRanks& layout);
/// "dynamic, places"; "dynamic, alternating for 3 and places for 1 extents of clips".
std::string clip_sharing_text(const std::string& mode, const PlacementCounts& placements);

/// "2 data group(s) of 2 rank(s) that share clips (dynamic, alternating), ZeRO stage 1".
std::string clip_ranks_text(const ClipJob& job, const std::vector<data::ClipShape>& shapes,
                            const ClipRanks& layout);

/// The group of this rank of the world; null where it is alone. Called by every rank.
std::unique_ptr<comm::Communicator> clip_group(comm::Communicator& world, const ClipRanks& layout);

}  // namespace longspan::train
