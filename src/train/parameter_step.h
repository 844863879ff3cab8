#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "longspan/backend/backend.h"
#include "longspan/nn/parameter.h"
#include "longspan/optim/mezo.h"
#include "longspan/optim/schedule.h"
#include "longspan/train/common_job.h"

namespace longspan::train {

/// What a rank runs of one step, pass by pass, of whatever model.
class StepPasses {
 public:
  virtual ~StepPasses() = default;
  StepPasses() = default;
  StepPasses(const StepPasses&) = delete;
  StepPasses& operator=(const StepPasses&) = delete;

  /// The same on every rank.
  virtual std::size_t count() const = 0;
  /// Adds the gradients of `loss_scale` times the sum of a pass's losses; gives that sum. In order,
  /// each once.
  virtual double run(std::size_t pass, double loss_scale) = 0;
  /// The sum alone.
  virtual double evaluate(std::size_t pass) = 0;
};

/// Of a rank's passes, or of all ranks'.
struct StepSums {
  double loss_sum = 0;
  double targets = 0;  ///< terms of that sum
  double tokens = 0;
  double flops = 0;  ///< of the model, forward and backward

  double loss() const { return loss_sum / targets; }  ///< NaN without a target
};

struct StepUpdate {
  double grad_norm = 0;             ///< before clipping; without a backward |slope|
  double compressed_grad_norm = 0;  ///< likewise, of compressed gradients alone
  double lr = 0;
  bool skipped = false;
};

/// The work of a step on the parameters that are trained, of any model on any backend and
/// communicator: gradients summed over passes and ranks, or the slope along a direction; then
/// clipping and the update.
class ParameterStep {
 public:
  /// The parameters have their first values, of which the optimizer may keep a copy. `host` keeps
  /// the optimizer's state if the job offloads it; else null. All must outlive this.
  ParameterStep(const CommonJob& job, nn::ParameterSet& parameters, backend::Backend& backend,
                comm::Communicator& ranks, backend::Backend* host);

  /// Where compressed gradients have no directions yet, runs these passes for them alone; of a run
  /// that goes on they were loaded, and are checked to be the same on all ranks. Once: returns
  /// whether there was anything to do. All ranks call it.
  bool prepare(StepPasses& passes);
  /// Of a step that computes nothing: as all are but the first.
  void skip_preparation() { is_prepared_ = true; }

  /// Gradients of the global batch's mean loss, summed over ranks, into the parameters. `own` are
  /// the counts of this rank's passes, those of a pass that ranks share on one of them alone; gives
  /// the sums over all ranks. `step` counts from 0. `prepare` first, unless that was done.
  ///
  /// With an optim::Mezo there are no gradients: the slope is measured instead, along the direction
  /// of `step`, by two evaluations of every pass, and the loss is the mean of both. Own weights are
  /// then as they were; where ranks have others' as well, `update` brings these back.
  StepSums forward_backward(StepPasses& passes, const StepSums& own, std::int64_t step);

  /// Clips and updates; or skips, when loss or gradients are not finite. All ranks have the same
  /// norm, bit for bit, and so decide alike. `step` counts from 0.
  StepUpdate update(std::int64_t step, double loss);

  nn::ParameterSet& parameters() { return *parameters_; }
  optim::Optimizer& optimizer() { return *optimizer_; }
  const optim::Optimizer& optimizer() const { return *optimizer_; }

 private:
  double run_passes(StepPasses& passes, double loss_scale);
  /// Sum of the losses at this distance from the weights, in the direction chosen.
  double losses_beside(StepPasses& passes, double distance);
  /// Measures the slope; gives the mean of both sums of losses.
  double measure(StepPasses& passes, std::int64_t step, double targets);

  double max_grad_norm_;
  nn::ParameterSet* parameters_;
  backend::Backend* backend_;
  comm::Communicator* ranks_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  optim::Mezo* zeroth_order_;  ///< the optimizer, where it needs no gradients; else null
  double slope_ = 0;           ///< measured last
  optim::Schedule schedule_;
  bool is_prepared_ = false;
};

/// The job's. Throws InputError when the backend cannot compute in it.
base::DType supported_dtype(const CommonJob& job, const backend::Backend& backend);

/// What ranks keep of the parameters. Throws InputError when the optimizer cannot share them so.
nn::Placement placement_of(const CommonJob& job, const backend::Backend& backend,
                           comm::Communicator& ranks);

}  // namespace longspan::train
