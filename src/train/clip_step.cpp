#include "train/clip_step.h"

#include <limits>

namespace longspan::train {
namespace {

/// What validation draws noise by: no step of a run, which are fewer.
constexpr std::int64_t kNoStep = std::numeric_limits<std::uint32_t>::max();

/// The optimizer copies the first weights, so they are made before it.
nn::ParameterSet& initialised(model::ClipModel& model, const ClipJob& job) {
  model.parameters().initialise(job.run.seed, job.model.initializer_range);
  return model.parameters();
}

double sum_of_squares(const std::vector<float>& numbers) {
  double sum = 0;
  for (const float number : numbers)
    sum += static_cast<double>(number) * static_cast<double>(number);
  return sum;
}

}  // namespace

/// The passes of a step, for what does not know clips. A batch is made when it is run, so that one
/// is there at a time.
class ClipStep::Passes : public StepPasses {
 public:
  Passes(ClipStep& work, const ClipPasses& passes, std::int64_t step)
      : work_(&work), passes_(&passes), step_(step) {}

  std::size_t count() const override { return passes_->size(); }
  double run(std::size_t pass, double loss_scale) override {
    return work_->model_.forward_backward(batch(pass), loss_scale).nll_sum;
  }
  double evaluate(std::size_t pass) override { return work_->model_.evaluate(batch(pass)).nll_sum; }

 private:
  model::ClipBatch batch(std::size_t pass) const { return work_->batch((*passes_)[pass], step_); }

  ClipStep* work_;
  const ClipPasses* passes_;
  std::int64_t step_;
};

ClipStep::ClipStep(const ClipJob& job, const data::ClipSource& source, backend::Backend& backend,
                   comm::Communicator& ranks, comm::Communicator* group, backend::Backend* host)
    : job_(&job),
      source_(&source),
      group_(group),
      model_(job.model, supported_dtype(job, backend), backend, job.keeps_inputs_alone(),
             placement_of(job, backend, ranks)),
      parameters_(job, initialised(model_, job), backend, ranks, host) {}

model::ClipBatch ClipStep::batch(const std::vector<ClipSample>& samples, std::int64_t step) const {
  return clip_batch(*source_, job_->model, job_->objective(), samples, job_->run.seed, step, group_,
                    job_->sharing());
}

StepSums ClipStep::counts(const std::vector<ClipSample>& samples) const {
  StepSums counts;
  for (const ClipSample& sample : samples) {
    const data::ClipShape shape = source_->shape(sample.clip);
    const shard::ClipGrid grid = patches_of(shape, job_->model.patch_size).grid();
    const bool skips_last = job_->objective() == ClipObjective::kNextFrame;
    counts.targets += static_cast<double>((grid.frames - (skips_last ? 1 : 0)) * grid.places *
                                          job_->model.patch_numbers());
    counts.tokens += static_cast<double>(grid.tokens());
    const double flops = job_->model.training_flops(grid.frames, grid.places);
    counts.flops += job_->has_backward() ? flops : flops * 2 / 3;  // two evaluations
  }
  return counts;
}

std::int64_t ClipStep::parameter_count() {
  std::int64_t count = 0;
  for (const nn::Parameter& one : model_.parameters().parameters()) count += one.shape.elements();
  return count;
}

StepSums ClipStep::forward_backward(const ClipPasses& passes, std::int64_t step) {
  StepSums own;
  for (const std::vector<ClipSample>& samples : passes) {
    if (!counts_for_group()) break;
    const StepSums more = counts(samples);
    own.targets += more.targets;
    own.tokens += more.tokens;
    own.flops += more.flops;
  }
  Passes run(*this, passes, step);
  return parameters_.forward_backward(run, own, step);
}

ClipStep::Errors ClipStep::evaluate(const std::vector<ClipSample>& samples) {
  const model::ClipBatch batch = this->batch(samples, kNoStep);
  const model::LossResult result = model_.evaluate(batch);
  // Behind the last frame changes are zeros.
  return {result.nll_sum, sum_of_squares(batch.targets), static_cast<double>(result.targets)};
}

}  // namespace longspan::train
