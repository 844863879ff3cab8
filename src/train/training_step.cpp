#include "train/training_step.h"

#include <numeric>
#include <optional>

#include "longspan/base/error.h"

namespace longspan::train {
namespace {

model::MemoryPolicy chosen_policy(const Job& job) {
  if (job.memory.chooses_saved_inputs()) {
    throw base::InternalError("a step begins before it was chosen how its blocks' inputs wait");
  }
  return memory_policy(job);
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

/// The passes of a step, for what does not know texts.
class TrainingStep::Passes : public StepPasses {
 public:
  Passes(TrainingStep& work, const std::vector<RankPass>& passes, std::int64_t step)
      : work_(&work), passes_(&passes), step_(step) {}

  std::size_t count() const override { return passes_->size(); }
  double run(std::size_t pass, double loss_scale) override {
    return work_->pass((*passes_)[pass], loss_scale, step_).nll_sum;
  }
  double evaluate(std::size_t pass) override { return work_->evaluate((*passes_)[pass]).nll_sum; }

 private:
  TrainingStep* work_;
  const std::vector<RankPass>* passes_;
  std::int64_t step_;
};

TrainingStep::TrainingStep(const Job& job, backend::Backend& backend, comm::Communicator& ranks,
                           backend::Backend* host)
    : job_(&job),
      model_(job.model, supported_dtype(job, backend), backend, chosen_policy(job),
             placement_of(job, backend, ranks), job.memory.offloads_saved_inputs() ? host : nullptr,
             {job.lora(), job.velora, job.column_row_sampling}),
      parameters_(job, initialised(model_, job), backend, ranks, host) {}

StepSums TrainingStep::forward_backward(const std::vector<RankPass>& passes, std::int64_t step) {
  StepSums counts;
  for (const RankPass& pass : passes) {
    // Once for all ranks that share it.
    if (pass.mesh != nullptr && pass.mesh->sequence().rank() > 0) continue;
    counts.targets += static_cast<double>(pass.batch->targets);
    counts.tokens += static_cast<double>(pass.batch->tokens.size());
    counts.flops += job_->training_flops(pass.batch->cu_seqlens);
  }
  Passes run(*this, passes, step);
  return parameters_.forward_backward(run, counts, step);
}

bool TrainingStep::prepare(const std::vector<RankPass>& passes, std::int64_t step) {
  Passes run(*this, passes, step);
  return parameters_.prepare(run);
}

model::LossResult TrainingStep::pass(const RankPass& pass, double loss_scale, std::int64_t step) {
  if (!job_->has_backward()) {
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

}  // namespace longspan::train
