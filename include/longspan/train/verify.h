#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/data/sampler.h"
#include "longspan/plan/step_plan.h"
#include "longspan/train/job.h"

namespace longspan::train {

/// How far two computations of one number, or of one tensor, are apart: ||a - b|| / ||b||.
struct Difference {
  std::string name;
  double relative = 0;
};

/// What one step of a job's own layout gave against one rank that shards, chunks and recomputes
/// nothing, both in the same precision and from the same weights and rows.
struct Comparison {
  std::string precision;
  double tolerance = 0;
  double loss = 0;  ///< of the one rank
  Difference loss_difference;
  Difference norm_difference;         ///< of the global gradient norm, before clipping
  std::vector<Difference> gradients;  ///< of every parameter, in the model's order

  bool agrees() const;
};

/// Whole micro-batches of a step, or its sequences, where it is planned.
using Rows = std::vector<std::shared_ptr<const data::MicroBatch>>;

/// A plan, and what blocks keep in groups of its kinds: levels as GroupKind::level has them; none:
/// what the job says, in all.
struct PlannedStep {
  plan::StepPlan plan;
  std::vector<std::string> levels;
};

/// Compares a step on `rows` of `job` by all ranks of `world`, who run it by `plan`, with one of
/// `oracle` by each of them alone; the two should differ in nothing that may change a result. All
/// ranks call it and get the same. Without a plan it is the job's fixed one, or, where its steps
/// are planned, one that has groups of every size.
Comparison compare(const Job& job, const Job& oracle, const Rows& rows, comm::Communicator& world,
                   const std::optional<PlannedStep>& plan = std::nullopt);

struct Verification {
  Job job;                          ///< what was run: the user's, shrunk
  std::vector<std::string> shrunk;  ///< in words, key by key
  std::string layout;               ///< in words
  std::vector<Comparison> comparisons;

  bool agrees() const;
};

/// Proves a job's layout (parallel, memory) on the job's own data: its first step, against one
/// rank. Unless `full`, the model and the rows are made small first, in everything but what the
/// layout depends on: heads, documents, ranks. Where steps are planned, that one is by a plan with
/// groups of every size, and with `full` it is by the planner's. A bf16 job is compared in fp32,
/// where a wrong layout cannot hide in rounding, and in bf16. Throws as `train` does.
Verification verify(const Job& job, comm::Communicator& world, bool full);

/// For a terminal, gradients by layer; and as one line of JSON, gradients one by one.
std::string verification_text(const Verification& verification);
std::string verification_json(const Verification& verification);

}  // namespace longspan::train
