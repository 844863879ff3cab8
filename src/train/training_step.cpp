#include "train/training_step.h"

#include <fmt/format.h>

#include <cmath>
#include <string>

#include "longspan/base/error.h"
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

optim::AdamWConfig adamw_config(const Job& job) {
  optim::AdamWConfig config;
  config.beta1 = job.optimizer.beta1;
  config.beta2 = job.optimizer.beta2;
  config.epsilon = job.optimizer.epsilon;
  config.weight_decay = job.optimizer.weight_decay;
  config.decay_norms_and_embeddings = job.optimizer.decay_norms_and_embeddings;
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

/// The optimizer copies the first weights, so they are made before it.
model::Decoder& initialised(model::Decoder& model, const Job& job) {
  model.parameters().initialise(job.run.seed, job.model.initializer_range);
  return model;
}

}  // namespace

/// What this rank holds of a row.
class TrainingStep::Part {
 public:
  Part(const data::MicroBatch& row, const shard::Mesh& mesh)
      : row_(&row),
        shard_{&mesh,
               shard::TokenLayout(static_cast<backend::Index>(row.tokens.size()), mesh.degrees())} {
    if (mesh.sequence().size() == 1) return;
    for (const shard::Range& range : shard_.layout.ranges(mesh.sequence().rank())) {
      const auto append = [&range](auto& part, const auto& whole) {
        part.insert(part.end(), whole.begin() + range.begin, whole.begin() + range.end);
      };
      append(tokens_, row.tokens);
      append(labels_, row.labels);
      append(positions_, row.positions);
    }
  }

  model::TokenBatch batch() const {
    if (shard_.mesh->sequence().size() == 1) {
      return {row_->tokens, row_->labels, row_->positions, row_->cu_seqlens, nullptr};
    }
    return {tokens_, labels_, positions_, row_->cu_seqlens, &shard_};
  }

 private:
  const data::MicroBatch* row_;
  nn::SequenceShard shard_;
  std::vector<data::TokenId> tokens_;
  std::vector<std::int32_t> labels_;
  std::vector<std::int32_t> positions_;
};

TrainingStep::TrainingStep(const Job& job, backend::Backend& backend, const shard::Mesh& mesh,
                           backend::Backend* host)
    : job_(&job),
      backend_(&backend),
      mesh_(&mesh),
      model_(job.model, supported_dtype(job, backend), backend, memory_policy(job),
             {.zero_stage = static_cast<int>(job.parallel.zero_stage),
              .ranks = &mesh.world(),
              .overlap = job.parallel.overlap && backend.is_asynchronous()},
             job.memory.checkpoint_offload == "host" ? host : nullptr),
      optimizer_(adamw_config(job), initialised(model_, job).parameters(), backend,
                 job.optimizer.offload == "host" ? host : nullptr),
      schedule_(schedule_of(job)) {}

TrainingStep::Sums TrainingStep::forward_backward(
    const std::vector<std::shared_ptr<const data::MicroBatch>>& rows) {
  std::vector<double> counts(3);  // targets, tokens, model FLOPs
  for (const auto& row : rows) {
    counts[0] += static_cast<double>(row->targets);
    counts[1] += static_cast<double>(row->tokens.size());
    counts[2] += job_->model.training_flops(row->cu_seqlens);
  }
  mesh_->data().all_reduce_sum(counts);

  auto& parameters = model_.parameters();
  parameters.start_gradients();
  const double loss_scale = counts[0] > 0 ? 1.0 / counts[0] : 0.0;
  std::vector<double> nll(1);
  for (const auto& row : rows) {
    if (&row == &rows.back()) parameters.start_last_pass();
    nll[0] += model_.forward_backward(Part(*row, *mesh_).batch(), loss_scale).nll_sum;
  }
  const backend::Scope scope(*backend_, "reduction");
  parameters.reduce_gradients();
  mesh_->world().all_reduce_sum(nll);
  return {nll[0], counts[0], counts[1], counts[2]};
}

model::LossResult TrainingStep::evaluate(const data::MicroBatch& row) {
  return model_.evaluate(Part(row, *mesh_).batch());
}

TrainingStep::Update TrainingStep::update(std::int64_t step, double loss) {
  const backend::Scope scope(*backend_, "optimizer");
  Update result;
  result.grad_norm = std::sqrt(model_.parameters().gradient_squares());
  result.lr = schedule_.at(step);
  result.skipped = !std::isfinite(result.grad_norm) || !std::isfinite(loss);
  if (!result.skipped) {
    optimizer_.step(result.lr, optim::clip_factor(result.grad_norm, job_->optimizer.max_grad_norm));
    model_.parameters().gather_weights();
  }
  return result;
}

}  // namespace longspan::train
