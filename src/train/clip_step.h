#pragma once

#include <cstdint>
#include <vector>

#include "longspan/data/clip_source.h"
#include "longspan/model/clip_model.h"
#include "longspan/train/clip_job.h"
#include "longspan/train/clip_objective.h"
#include "train/clip_ranks.h"
#include "train/parameter_step.h"

namespace longspan::train {

/// Model, optimizer and the work of one step of clips, on any backend and communicator: what the
/// trainer runs, and what a plan runs on a backend that computes nothing.
class ClipStep {
 public:
  /// Makes and initialises the model, divided among `ranks`, of which those of `group` (null: this
  /// one alone) share clips. `host` keeps what the job offloads, else null. All must outlive this.
  /// Throws InputError when the backend cannot compute in the job's precision.
  ClipStep(const ClipJob& job, const data::ClipSource& source, backend::Backend& backend,
           comm::Communicator& ranks, comm::Communicator* group, backend::Backend* host);

  /// Gradients of these passes: see ParameterStep::forward_backward. On every rank the same number
  /// of passes. Targets are numbers, tokens patches. `step` counts from 0: noise is drawn by it.
  StepSums forward_backward(const ClipPasses& passes, std::int64_t step);

  /// Sums of squared errors on clips of no step, and how many numbers count.
  struct Errors {
    double model = 0;
    double copies = 0;  ///< of the next frame taken to be as the last one is
    double targets = 0;
  };
  /// Of this rank's numbers alone.
  Errors evaluate(const std::vector<ClipSample>& samples);

  model::ClipModel& model() { return model_; }
  /// Numbers that are trained.
  std::int64_t parameter_count();
  ParameterStep& parameters() { return parameters_; }

 private:
  class Passes;

  bool counts_for_group() const { return group_ == nullptr || group_->rank() == 0; }
  model::ClipBatch batch(const std::vector<ClipSample>& samples, std::int64_t step) const;
  StepSums counts(const std::vector<ClipSample>& samples) const;

  const ClipJob* job_;
  const data::ClipSource* source_;
  comm::Communicator* group_;
  model::ClipModel model_;
  ParameterStep parameters_;
};

}  // namespace longspan::train
