#include "train/training_step.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/optim/kinds.h"
#include "train/precision.h"

namespace longspan::train {
namespace {

optim::Schedule schedule_of(const Job& job) {
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

optim::OptimizerConfig optimizer_config(const Job& job) {
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

/// Throws InputError when the backend cannot compute in the job's precision.
base::DType supported_dtype(const Job& job, const backend::Backend& backend) {
  const base::DType dtype = dtype_of_precision(job.training.precision);
  std::string why_not;
  if (backend.supports(dtype, &why_not)) return dtype;
  throw base::InputError(fmt::format("training.precision \"{}\" does not work here: {}",
                                     job.training.precision, why_not));
}

model::MemoryPolicy chosen_policy(const Job& job) {
  if (job.memory.chooses_saved_inputs()) {
    throw base::InternalError("a step begins before it was chosen how its blocks' inputs wait");
  }
  return memory_policy(job);
}

/// What ranks keep of the parameters. Throws InputError when the optimizer cannot share them so.
nn::Placement placement_of(const Job& job, const backend::Backend& backend,
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

/// What is trained; the optimizer copies the first weights, so they are made before it.
nn::ParameterSet& initialised(model::Decoder& model, const Job& job) {
  model.parameters().initialise(job.run.seed, job.model.initializer_range);
  if (model.adapters() != nullptr) {
    model.adapters()->initialise(job.run.seed, job.model.initializer_range);
  }
  return model.trained();
}

}  // namespace

/// What this rank holds of a micro-batch.
class TrainingStep::Part {
 public:
  explicit Part(const RankPass& pass) : whole_(pass.batch.get()), numbers_(whole_->numbers) {
    if (numbers_.empty()) {
      numbers_.resize(whole_->tokens.size());
      std::iota(numbers_.begin(), numbers_.end(), 0);
    }
    if (pass.mesh == nullptr) return;
    const auto tokens = static_cast<backend::Index>(whole_->tokens.size());
    shard_ = nn::SequenceShard{pass.mesh, shard::TokenLayout(tokens, pass.mesh->degrees())};
    for (const shard::Range& range : shard_->layout.ranges(pass.mesh->sequence().rank())) {
      const auto append = [&range](auto& part, const auto& whole) {
        part.insert(part.end(), whole.begin() + range.begin, whole.begin() + range.end);
      };
      append(tokens_, whole_->tokens);
      append(labels_, whole_->labels);
      append(positions_, whole_->positions);
    }
  }

  /// Of the whole row's tokens.
  const std::vector<std::int32_t>& numbers() const { return numbers_; }
  /// `draws` of a pass that trains.
  model::TokenBatch batch(const model::TokenDraws* draws) const {
    if (!shard_) {
      return {whole_->tokens,     whole_->labels, whole_->positions,
              whole_->cu_seqlens, nullptr,        draws};
    }
    return {tokens_, labels_, positions_, whole_->cu_seqlens, &*shard_, draws};
  }

 private:
  const data::MicroBatch* whole_;
  std::vector<std::int32_t> numbers_;
  std::optional<nn::SequenceShard> shard_;
  std::vector<data::TokenId> tokens_;
  std::vector<std::int32_t> labels_;
  std::vector<std::int32_t> positions_;
};

TrainingStep::TrainingStep(const Job& job, backend::Backend& backend, comm::Communicator& ranks,
                           backend::Backend* host)
    : job_(&job),
      backend_(&backend),
      ranks_(&ranks),
      model_(job.model, supported_dtype(job, backend), backend, chosen_policy(job),
             placement_of(job, backend, ranks), job.memory.offloads_saved_inputs() ? host : nullptr,
             {job.lora(), job.velora, job.column_row_sampling}),
      optimizer_(optim::make_optimizer(optimizer_config(job), initialised(model_, job), backend,
                                       job.optimizer.offload == "host" ? host : nullptr)),
      zeroth_order_(dynamic_cast<optim::Mezo*>(optimizer_.get())),
      schedule_(schedule_of(job)) {}

TrainingStep::Sums TrainingStep::forward_backward(const std::vector<RankPass>& passes,
                                                  std::int64_t step) {
  std::vector<double> counts(3);  // targets, tokens, model FLOPs
  for (const RankPass& pass : passes) {
    // Once for all ranks that share it.
    if (pass.mesh != nullptr && pass.mesh->sequence().rank() > 0) continue;
    counts[0] += static_cast<double>(pass.batch->targets);
    counts[1] += static_cast<double>(pass.batch->tokens.size());
    counts[2] += job_->training_flops(pass.batch->cu_seqlens);
  }
  ranks_->all_reduce_sum(counts);
  if (zeroth_order_ != nullptr) {
    return {measure(passes, step, counts[0]), counts[0], counts[1], counts[2]};
  }

  prepare(passes, step);
  std::vector<double> nll{run_passes(passes, counts[0] > 0 ? 1.0 / counts[0] : 0.0, step)};
  ranks_->all_reduce_sum(nll);
  return {nll[0], counts[0], counts[1], counts[2]};
}

/// Gradients of these passes, summed over ranks; returns this rank's sum of NLL.
double TrainingStep::run_passes(const std::vector<RankPass>& passes, double loss_scale,
                                std::int64_t step) {
  auto& parameters = model_.trained();
  parameters.start_gradients();
  double nll = 0;
  for (const RankPass& one : passes) {
    if (&one == &passes.back()) parameters.start_last_pass();
    nll += pass(one, loss_scale, step).nll_sum;
  }
  const backend::Scope scope(*backend_, "reduction");
  parameters.reduce_gradients();
  parameters.row_sampling().settle(*ranks_);
  return nll;
}

bool TrainingStep::prepare(const std::vector<RankPass>& passes, std::int64_t step) {
  nn::Directions& directions = model_.trained().directions();
  if (std::exchange(is_prepared_, true) || directions.count() == 0) return false;
  if (directions.are_there()) {
    directions.check(*ranks_);
    return true;
  }
  directions.find();
  run_passes(passes, 0.0, step);
  directions.settle(*ranks_);
  return true;
}

double TrainingStep::nll_beside(const std::vector<RankPass>& passes, double distance) {
  {
    const backend::Scope scope(*backend_, "moving");
    zeroth_order_->move(distance);
    model_.trained().gather_weights();
  }
  const backend::Scope scope(*backend_, "evaluation");
  std::vector<double> nll(1);
  for (const RankPass& one : passes) nll[0] += evaluate(one).nll_sum;
  ranks_->all_reduce_sum(nll);
  return nll[0];
}

double TrainingStep::measure(const std::vector<RankPass>& passes, std::int64_t step,
                             double targets) {
  const double epsilon = zeroth_order_->epsilon();
  zeroth_order_->choose_direction(step);
  const double above = nll_beside(passes, epsilon);
  const double below = nll_beside(passes, -epsilon);
  zeroth_order_->move_back();
  slope_ = targets > 0 ? (above - below) / targets / (2.0 * epsilon) : 0.0;
  return (above + below) / 2.0;
}

model::LossResult TrainingStep::pass(const RankPass& pass, double loss_scale, std::int64_t step) {
  if (zeroth_order_ != nullptr) {
    evaluate(pass);
    return evaluate(pass);
  }
  const Part part(pass);
  const model::TokenDraws draws{job_->run.seed, static_cast<std::uint64_t>(step), part.numbers()};
  return model_.forward_backward(part.batch(&draws), loss_scale, pass.blocks.get());
}

model::LossResult TrainingStep::evaluate(const RankPass& pass) {
  return model_.evaluate(Part(pass).batch(nullptr));
}

TrainingStep::Update TrainingStep::update(std::int64_t step, double loss) {
  const backend::Scope scope(*backend_, "optimizer");
  Update result;
  if (job_->velora.is_on()) {
    result.compressed_grad_norm = std::sqrt(model_.trained().compressed_gradient_squares());
  }
  result.grad_norm =
      zeroth_order_ != nullptr ? std::abs(slope_) : std::sqrt(model_.trained().gradient_squares());
  result.lr = schedule_.at(step);
  result.skipped = !std::isfinite(result.grad_norm) || !std::isfinite(loss);
  if (!result.skipped) {
    const double slope = zeroth_order_ != nullptr ? slope_ : 1.0;
    const double factor = optim::clip_factor(result.grad_norm, job_->optimizer.max_grad_norm);
    if (optimizer_->observe(loss)) {
      optimizer_->choose(model_.trained().gradient_squares_by_parameter());
    }
    optimizer_->step(result.lr, slope * factor);
  }
  // A skipped step, too, has moved the weights that others own.
  if (!result.skipped || zeroth_order_ != nullptr) model_.trained().gather_weights();
  return result;
}

}  // namespace longspan::train
