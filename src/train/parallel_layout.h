#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longspan/shard/token_layout.h"
#include "longspan/train/job.h"

namespace longspan::train {

/// How a job's ranks share its work: `data` groups take rows in turn, and the ranks of each of them
/// share the tokens of a row.
struct ParallelLayout {
  shard::SequenceDegrees sequence;
  int data = 1;

  /// The rows of a step, of which `data` group `group` takes group, group + data, ...
  static std::int64_t rows(const Job& job) {
    return job.training.tokens_per_step / job.training.micro_batch_tokens;
  }
  std::int64_t rows_of(const Job& job, int group) const {
    return (rows(job) - group + data - 1) / data;
  }
};

/// Of each factor.
inline constexpr int kMostSequenceRanks = 1 << 15;

/// What the job says about so many ranks. Throws InputError when they cannot train it: they are not
/// a multiple of what it wants, or a step has fewer rows than there are groups; or when what they
/// exchange would have to be made again (memory.saved_inputs).
///
/// Where each step has a plan of its own: the largest groups that it may have.
///
/// "auto" for parallel.sequence shares a row among no more ranks than needed for every group to
/// have one. A degree alone is taken as Ulysses ranks as far as there are heads, and a ring beyond.
ParallelLayout parallel_layout(const Job& job, int ranks);

/// The fewest of so many ranks that must share a row (or a micro-batch) of a step, for no group to
/// be left without one. It divides them.
int fewest_ranks(std::int64_t rows, int ranks);

/// Groups of every aligned size of which plans may choose (shard::aligned_sizes), divided between
/// Ulysses and ring as a degree alone is.
std::vector<shard::SequenceDegrees> aligned_degrees(const Job& job, int ranks);

/// "1 data group(s) of 2 Ulysses x 2 ring rank(s), ZeRO stage 3", or what planners choose of.
std::string layout_text(const Job& job, const ParallelLayout& layout);

/// What a place of a sequence group holds of a full row, in numbers: places that have all in common
/// hold and exchange the same.
std::vector<std::int64_t> place_traits(const Job& job, const shard::SequenceDegrees& degrees,
                                       int place);

/// Throws InputError when parallel.sequence is not legal for any number of ranks.
void check_sequence(const Job& job);

}  // namespace longspan::train
