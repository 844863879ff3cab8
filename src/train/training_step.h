#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/data/sampler.h"
#include "longspan/model/decoder.h"
#include "longspan/optim/mezo.h"
#include "longspan/optim/schedule.h"
#include "longspan/shard/mesh.h"
#include "longspan/train/job.h"

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
  /// Of the global batch: sums over all ranks.
  struct Sums {
    double nll = 0;
    double targets = 0;
    double tokens = 0;
    double flops = 0;  ///< of the model: see Job::training_flops

    double loss() const { return nll / targets; }  ///< NaN without a target
  };

  struct Update {
    double grad_norm = 0;             ///< before clipping; without a backward |slope|
    double compressed_grad_norm = 0;  ///< likewise, of compressed gradients alone
    double lr = 0;
    bool skipped = false;
  };

  /// Makes and initialises the model on the backend, divided among `ranks`; `host` keeps what the
  /// job offloads: null when it offloads nothing. All must outlive this. Throws InputError when the
  /// backend cannot compute in the job's precision.
  TrainingStep(const Job& job, backend::Backend& backend, comm::Communicator& ranks,
               backend::Backend* host = nullptr);

  /// Where compressed gradients have no directions yet, runs these passes for them alone; of a run
  /// that goes on they were loaded, and are checked to be the same on all ranks. Once: returns
  /// whether there was anything to do. All ranks call it.
  bool prepare(const std::vector<RankPass>& passes, std::int64_t step = 0);
  /// Of a step that computes nothing: as all are but the first.
  void skip_preparation() { is_prepared_ = true; }

  /// Gradients of the global batch's mean loss, summed over ranks, into the parameters: whatever
  /// ranks run which of its micro-batches. On every rank the same number of passes: where there is
  /// nothing to do, empty ones. `step` counts from 0: with the tokens' numbers in it, and the job's
  /// seed, it decides what dropout drops and how codes are rounded at random. `prepare` first,
  /// unless that was done.
  ///
  /// With an optim::Mezo there are no gradients: the slope is measured instead, along the direction
  /// of `step`, by two evaluations of every pass, and the loss is the mean of both. Own weights are
  /// then as they were; where ranks have others' as well, `update` brings these back.
  Sums forward_backward(const std::vector<RankPass>& passes, std::int64_t step = 0);

  /// One pass of those that `forward_backward` makes, which is not its last: adds to the gradients,
  /// or evaluates twice.
  model::LossResult pass(const RankPass& pass, double loss_scale, std::int64_t step = 0);

  /// Loss of a micro-batch: the sums of this rank's tokens alone.
  model::LossResult evaluate(const RankPass& pass);

  /// Clips and updates; or skips, when loss or gradients are not finite. All ranks have the same
  /// norm, bit for bit, and so decide alike. `step` counts from 0.
  Update update(std::int64_t step, double loss);

  model::Decoder& model() { return model_; }
  optim::Optimizer& optimizer() { return *optimizer_; }
  const optim::Optimizer& optimizer() const { return *optimizer_; }

 private:
  class Part;

  double run_passes(const std::vector<RankPass>& passes, double loss_scale, std::int64_t step);
  /// Sum of the NLL at this distance from the weights, in the direction chosen.
  double nll_beside(const std::vector<RankPass>& passes, double distance);
  /// Measures the slope; gives the mean of both sums of NLL.
  double measure(const std::vector<RankPass>& passes, std::int64_t step, double targets);

  const Job* job_;
  backend::Backend* backend_;
  comm::Communicator* ranks_;
  model::Decoder model_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  optim::Mezo* zeroth_order_;  ///< the optimizer, where it needs no gradients; else null
  double slope_ = 0;           ///< measured last
  optim::Schedule schedule_;
  bool is_prepared_ = false;
};

}  // namespace longspan::train
