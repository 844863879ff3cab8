#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "longspan/data/sampler.h"
#include "longspan/model/memory_policy.h"
#include "longspan/plan/step_plan.h"
#include "longspan/shard/mesh.h"
#include "longspan/train/job.h"
#include "train/training_step.h"

namespace longspan::train {

/// What a rank runs that has no sequence for a pass.
std::shared_ptr<const data::MicroBatch> empty_micro_batch();

/// Rows of a step, or of a validation, in groups of `degree` ranks: group g of n takes rows g,
/// g + n, ...; where others have one more, it has nothing to do in the last micro-batch.
plan::StepPlan fixed_plan(std::int64_t rows, int ranks, int degree);

/// A plan in which every aligned size of groups has its turn, for checks and not for speed: first
/// the largest groups, then one of each smaller size side by side. Long sequences come first;
/// groups for which none is left are left out.
plan::StepPlan plan_of_all_sizes(const std::vector<std::int64_t>& lengths, int ranks);

/// What blocks keep in groups of each kind; null: what the job says. Empty: that of all kinds.
using KindPolicies = std::vector<std::shared_ptr<const model::MemoryPolicy>>;
/// Of kinds with these levels of activation checkpointing, as GroupKind::level has them. Throws
/// InputError for one that is none.
KindPolicies policies_of(const Job& job, const std::vector<std::string>& levels);

/// What this rank runs of a micro-batch: its group's sequences, one after another, or nothing.
/// `read` gives a sequence. Throws InternalError when the meshes have none of the group's size, or
/// the group's kind has no policy.
using ReadSequence = std::function<std::shared_ptr<const data::MicroBatch>(std::size_t)>;
RankPass pass_of(const plan::MicroBatch& micro_batch, const shard::Meshes& meshes,
                 const ReadSequence& read, const KindPolicies& policies = {});
/// `read` with the numbers of tokens within their step, where it has sequences of these lengths.
ReadSequence numbered(ReadSequence read, const std::vector<std::int64_t>& lengths);

/// And of a plan: one pass for each of its micro-batches, since a pass may need all ranks.
std::vector<RankPass> passes_of(const plan::StepPlan& plan, const shard::Meshes& meshes,
                                const ReadSequence& read, const KindPolicies& policies = {});

}  // namespace longspan::train
