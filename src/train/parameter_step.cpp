#include "train/parameter_step.h"

#include <fmt/format.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/optim/kinds.h"
#include "train/precision.h"

namespace longspan::train {
namespace {

optim::Schedule schedule_of(const CommonJob& job) {
  optim::Schedule schedule;
  const std::string& name = job.schedule.name;
  schedule.shape = name == "constant" ? optim::ScheduleShape::kConstant
                   : name == "linear" ? optim::ScheduleShape::kLinear
                   : name == "wsd"    ? optim::ScheduleShape::kWsd
                                      : optim::ScheduleShape::kCosine;
  schedule.peak = job.optimizer.learning_rate;
  schedule.minimum_ratio = job.schedule.min_ratio;
  schedule.warmup_steps = job.schedule.warmup_steps;
  schedule.decay_steps = job.schedule.decay_steps;
  schedule.total_steps = job.training.steps;
  return schedule;
}

optim::OptimizerConfig optimizer_config(const CommonJob& job) {
  optim::OptimizerConfig config;
  config.name = job.optimizer.name;
  config.rounds_moments = job.optimizer.moments == "bf16";
  config.seed = job.run.seed;
  config.perturbation = job.optimizer.perturbation;
  config.lozo.rank = job.optimizer.lozo_rank;
  config.lozo.interval = job.optimizer.lozo_interval;
  config.blocks.active = job.optimizer.block_active;
  config.blocks.interval = job.optimizer.block_interval;
  config.blocks.patience = job.optimizer.block_patience;
  config.galore.rank = job.optimizer.galore_rank;
  config.galore.interval = job.optimizer.galore_interval;
  config.galore.scale = job.optimizer.galore_scale;
  config.adam.beta1 = job.optimizer.beta1;
  config.adam.beta2 = job.optimizer.beta2;
  config.adam.epsilon = job.optimizer.epsilon;
  config.adam.weight_decay = job.optimizer.weight_decay;
  config.adam.decay_norms_and_embeddings = job.optimizer.decay_norms_and_embeddings;
  return config;
}

}  // namespace

base::DType supported_dtype(const CommonJob& job, const backend::Backend& backend) {
  const base::DType dtype = dtype_of_precision(job.training.precision);
  std::string why_not;
  if (backend.supports(dtype, &why_not)) return dtype;
  throw base::InputError(fmt::format("training.precision \"{}\" does not work here: {}",
                                     job.training.precision, why_not));
}

nn::Placement placement_of(const CommonJob& job, const backend::Backend& backend,
                           comm::Communicator& ranks) {
  const optim::OptimizerKind& kind = optim::optimizer_kind(job.optimizer.name);
  if (kind.needs_whole_parameters && ranks.size() > 1 && job.parallel.zero_stage > 0) {
    throw base::InputError(
        fmt::format("parallel.zero_stage is {}, at which the {} ranks share matrices, and "
                    "optimizer.name \"{}\" needs them whole; legal: 0",
                    job.parallel.zero_stage, ranks.size(), kind.name));
  }
  return {.zero_stage = static_cast<int>(job.parallel.zero_stage),
          .ranks = &ranks,
          .overlap = job.parallel.overlap && backend.is_asynchronous(),
          .has_gradients = kind.needs_gradients,
          .cut = kind.cut};
}

ParameterStep::ParameterStep(const CommonJob& job, nn::ParameterSet& parameters,
                             backend::Backend& backend, comm::Communicator& ranks,
                             backend::Backend* host)
    : max_grad_norm_(job.optimizer.max_grad_norm),
      parameters_(&parameters),
      backend_(&backend),
      ranks_(&ranks),
      optimizer_(optim::make_optimizer(optimizer_config(job), parameters, backend,
                                       job.optimizer.offload == "host" ? host : nullptr)),
      zeroth_order_(dynamic_cast<optim::Mezo*>(optimizer_.get())),
      schedule_(schedule_of(job)) {}

StepSums ParameterStep::forward_backward(StepPasses& passes, const StepSums& own,
                                         std::int64_t step) {
  std::vector<double> counts{own.targets, own.tokens, own.flops};
  ranks_->all_reduce_sum(counts);
  if (zeroth_order_ != nullptr) {
    return {measure(passes, step, counts[0]), counts[0], counts[1], counts[2]};
  }

  prepare(passes);
  std::vector<double> losses{run_passes(passes, counts[0] > 0 ? 1.0 / counts[0] : 0.0)};
  ranks_->all_reduce_sum(losses);
  return {losses[0], counts[0], counts[1], counts[2]};
}

/// Gradients of these passes, summed over ranks; returns this rank's sum of losses.
double ParameterStep::run_passes(StepPasses& passes, double loss_scale) {
  parameters_->start_gradients();
  double losses = 0;
  for (std::size_t pass = 0; pass < passes.count(); ++pass) {
    if (pass + 1 == passes.count()) parameters_->start_last_pass();
    losses += passes.run(pass, loss_scale);
  }
  const backend::Scope scope(*backend_, "reduction");
  parameters_->reduce_gradients();
  parameters_->row_sampling().settle(*ranks_);
  return losses;
}

bool ParameterStep::prepare(StepPasses& passes) {
  nn::Directions& directions = parameters_->directions();
  if (std::exchange(is_prepared_, true) || directions.count() == 0) return false;
  if (directions.are_there()) {
    directions.check(*ranks_);
    return true;
  }
  directions.find();
  run_passes(passes, 0.0);
  directions.settle(*ranks_);
  return true;
}

double ParameterStep::losses_beside(StepPasses& passes, double distance) {
  {
    const backend::Scope scope(*backend_, "moving");
    zeroth_order_->move(distance);
    parameters_->gather_weights();
  }
  const backend::Scope scope(*backend_, "evaluation");
  std::vector<double> losses(1);
  for (std::size_t pass = 0; pass < passes.count(); ++pass) losses[0] += passes.evaluate(pass);
  ranks_->all_reduce_sum(losses);
  return losses[0];
}

double ParameterStep::measure(StepPasses& passes, std::int64_t step, double targets) {
  const double epsilon = zeroth_order_->epsilon();
  zeroth_order_->choose_direction(step);
  const double above = losses_beside(passes, epsilon);
  const double below = losses_beside(passes, -epsilon);
  zeroth_order_->move_back();
  slope_ = targets > 0 ? (above - below) / targets / (2.0 * epsilon) : 0.0;
  return (above + below) / 2.0;
}

StepUpdate ParameterStep::update(std::int64_t step, double loss) {
  const backend::Scope scope(*backend_, "optimizer");
  StepUpdate result;
  if (parameters_->directions().count() > 0) {
    result.compressed_grad_norm = std::sqrt(parameters_->compressed_gradient_squares());
  }
  result.grad_norm =
      zeroth_order_ != nullptr ? std::abs(slope_) : std::sqrt(parameters_->gradient_squares());
  result.lr = schedule_.at(step);
  result.skipped = !std::isfinite(result.grad_norm) || !std::isfinite(loss);
  if (!result.skipped) {
    const double slope = zeroth_order_ != nullptr ? slope_ : 1.0;
    const double factor = optim::clip_factor(result.grad_norm, max_grad_norm_);
    if (optimizer_->observe(loss)) {
      optimizer_->choose(parameters_->gradient_squares_by_parameter());
    }
    optimizer_->step(result.lr, slope * factor);
  }
  // A skipped step, too, has moved the weights that others own.
  if (!result.skipped || zeroth_order_ != nullptr) parameters_->gather_weights();
  return result;
}

}  // namespace longspan::train
