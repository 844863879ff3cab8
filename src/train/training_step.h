#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/data/sampler.h"
#include "longspan/model/decoder.h"
#include "longspan/shard/mesh.h"
#include "longspan/train/job.h"
#include "train/parameter_step.h"

namespace longspan::train {

/// What a rank runs forward and backward at once: a micro-batch, and the ranks that share it.
struct RankPass {
  std::shared_ptr<const data::MicroBatch> batch;
  const shard::Mesh* mesh = nullptr;  ///< whose sequence group; null: this rank alone
  /// What blocks keep for the backward, of which all that share the pass must be told the same;
  /// null: what the job says.
  std::shared_ptr<const model::MemoryPolicy> blocks = nullptr;
};

/// Model, optimizer and the work of one step, on any backend and communicator: what the trainer
/// runs, and what a plan runs on a backend that computes nothing.
class TrainingStep {
 public:
  /// Makes and initialises the model on the backend, divided among `ranks`; `host` keeps what the
  /// job offloads: null when it offloads nothing. All must outlive this. Throws InputError when the
  /// backend cannot compute in the job's precision.
  TrainingStep(const Job& job, backend::Backend& backend, comm::Communicator& ranks,
               backend::Backend* host = nullptr);

  /// See ParameterStep::prepare.
  bool prepare(const std::vector<RankPass>& passes, std::int64_t step = 0);
  void skip_preparation() { parameters_.skip_preparation(); }

  /// See ParameterStep::forward_backward: gradients of these passes, whatever ranks run which of
  /// the global batch's micro-batches. On every rank the same number of passes: where there is
  /// nothing to do, empty ones. `step` counts from 0: with the tokens' numbers in it, and the job's
  /// seed, it decides what dropout drops and how codes are rounded at random. FLOPs: see
  /// Job::training_flops.
  StepSums forward_backward(const std::vector<RankPass>& passes, std::int64_t step = 0);

  /// One pass of those that `forward_backward` makes, which is not its last: adds to the gradients,
  /// or evaluates twice.
  model::LossResult pass(const RankPass& pass, double loss_scale, std::int64_t step = 0);

  /// Loss of a micro-batch: the sums of this rank's tokens alone.
  model::LossResult evaluate(const RankPass& pass);

  /// See ParameterStep::update.
  StepUpdate update(std::int64_t step, double loss) { return parameters_.update(step, loss); }

  model::Decoder& model() { return model_; }
  ParameterStep& parameters() { return parameters_; }
  optim::Optimizer& optimizer() { return parameters_.optimizer(); }
  const optim::Optimizer& optimizer() const { return parameters_.optimizer(); }

 private:
  class Part;
  class Passes;

  const Job* job_;
  model::Decoder model_;
  ParameterStep parameters_;
};

}  // namespace longspan::train
