#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longspan/train/cost_model.h"
#include "longspan/train/job.h"

namespace longspan::train {

/// The job with groups of so many ranks, one row of so many tokens for each of them.
Job with_groups(const Job& job, int ranks, int degree, std::int64_t tokens);

/// Sizes of a pass that costs are fitted to.
struct PassSize {
  std::int64_t tokens = 0;   ///< of a group
  std::int64_t longest = 0;  ///< of its documents
};

/// Ranks of a group of which one is slowest or needs most: one of each place of its ring, at most
/// four of them, as what they see of each other's keys differs; the first of Ulysses ranks has most
/// heads. Of the group of the job that spans most machines.
std::vector<int> unlike_ranks(const Job& job, const PlanSetting& setting);

/// `most` tokens, a fourth and a sixteenth of it, each in long and in short documents: the first is
/// the largest.
std::vector<PassSize> pass_sizes(std::int64_t most, std::int64_t longest);

/// A kind of group and the job that runs it.
struct KindJob {
  plan::GroupKind kind;
  Job job;
  std::vector<PassSize> sizes;
};

/// The room of each kind that the options and the ranks give, 0 where a token has none. Kinds of
/// one level follow each other.
std::vector<std::int64_t> rooms_of(const Job& job, const PlanSetting& setting,
                                   const CostOptions& options);

/// All kinds that have room for a token. Throws InputError when none has.
std::vector<KindJob> kinds_of(const Job& job, const PlanSetting& setting,
                              const CostOptions& options, const std::vector<std::int64_t>& rooms);

/// A model fitted to what passes took: seconds[kind][size], and `empty_seconds`, of a pass in which
/// no rank has a token.
Costs fit_kinds(int ranks, const std::vector<KindJob>& kinds, double empty_seconds,
                const std::vector<std::vector<double>>& seconds);

/// "Llama-3-8B on 8 x h200, ZeRO stage 3".
std::string costs_subject(const Job& job, const PlanSetting& setting);

}  // namespace longspan::train
