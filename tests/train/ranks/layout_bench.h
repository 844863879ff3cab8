#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "longspan/plan/step_plan.h"
#include "longspan/shard/mesh.h"
#include "tests/train/ranks/step_bench.h"

namespace longspan::test {

/// Rows that are packed and not, one shorter than there are ranks.
Batches packed_rows();
/// A document each, as planners deal them out.
Batches single_rows();
std::vector<std::int64_t> lengths_of(const Batches& rows);

/// The job of adapters of rank 3 beside its model.
train::Job with_adapters(train::Job job, double dropout = 0.0);

/// A step of these ranks; adapters, if the job has some, are not zero.
struct Step {
  Step(const train::Job& step_job, comm::Communicator& ranks,
       const std::vector<shard::SequenceDegrees>& degrees);

  /// Gradients of step `number` of a run.
  void run(const Batches& rows, const plan::StepPlan& plan, std::int64_t number);

  train::Job job;
  std::unique_ptr<backend::Backend> backend;
  shard::Meshes meshes;
  train::TrainingStep step;
  double loss = 0;
  double grad_norm = 0;
};

/// Loss, norm and gradients, relative.
void check_same(Step& found, Step& expected, double tolerance);

/// Two steps of packed rows with an update between them, at every layout of all ranks and every
/// ZeRO stage, against one rank's: loss, norm, gradients, and in the end weights.
void check_layouts(train::Job job, double tolerance);

}  // namespace longspan::test
