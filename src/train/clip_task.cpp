// Training on clips: sprites or arrays, groups of ranks that share clips, a spatial-temporal model.
#include <fmt/format.h>

#include <utility>

#include "longspan/base/error.h"
#include "longspan/train/clip_plan.h"
#include "train/clip_corpus.h"
#include "train/clip_files.h"
#include "train/clip_ranks.h"
#include "train/clip_step.h"
#include "train/dry_clips.h"
#include "train/report.h"
#include "train/training_task.h"

namespace longspan::train {
namespace {

class ClipLearner : public Learner {
 public:
  ClipLearner(const ClipJob& job, ClipCorpus& corpus, const LearnerDevices& devices);

  std::vector<std::string> description() const override;
  ParameterStep& parameters() override { return step_->parameters(); }

  std::string begin_from_files(bool /*is_new*/) override { return ""; }
  std::string weights_name(const std::filesystem::path& step_directory) const override;
  CheckpointExtras checkpoint_extras() const override;

  bool begin_step(std::int64_t step) override;
  StepSums run_step(std::int64_t step) override { return step_->forward_backward(passes_, step); }
  std::optional<PlanMetrics> plan_metrics() const override { return std::nullopt; }
  std::optional<ValidationMetrics> validate() override;

 private:
  ClipFiles files() const {
    return {job_->model, job_->batch.objective,
            base::name_of(step_->model().parameters().weights().dtype())};
  }
  /// Of these micro-batches, the same on every rank, what this rank's group takes.
  ClipPasses mine(const std::vector<std::vector<ClipSample>>& micro_batches) const;

  const ClipJob* job_;
  ClipCorpus* corpus_;
  comm::Communicator* world_;
  ClipRanks layout_;
  std::unique_ptr<comm::Communicator> group_;
  std::unique_ptr<ClipStep> step_;
  ClipPasses passes_;  // of the present step
};

ClipLearner::ClipLearner(const ClipJob& job, ClipCorpus& corpus, const LearnerDevices& devices)
    : job_(&job),
      corpus_(&corpus),
      world_(devices.world),
      layout_(clip_ranks(job, devices.world->size())),
      group_(clip_group(*devices.ranks, layout_)) {
  comm::run_agreed(*world_, [&] {
    step_ = std::make_unique<ClipStep>(job, corpus.source(), *devices.backend, *devices.ranks,
                                       group_.get(), devices.host);
  });
}

std::vector<std::string> ClipLearner::description() const {
  const model::ClipConfig& model = job_->model;
  const ClipJob::Batch& batch = job_->batch;
  std::vector<std::string> lines = {
      fmt::format(
          "model   {} parameters: {} pairs of blocks, hidden {}, {} heads of {}, MLP {}, patches "
          "of {} x {}, {}",
          format_count(static_cast<double>(step_->parameter_count())), model.num_hidden_layers,
          model.hidden_size, model.num_attention_heads, model.head_dim(), model.intermediate_size,
          model.patch_size, model.patch_size, job_->training.precision),
      fmt::format("data    {}", corpus_->description()),
      fmt::format("batch   {} clips a step in micro-batches of {}, {}, {} steps",
                  batch.clips_per_step, batch.clips_per_micro_batch, batch.objective,
                  job_->training.steps)};
  if (world_->size() > 1) {
    lines.push_back(fmt::format("layout  {}", clip_ranks_text(*job_, corpus_->shapes(), layout_)));
  }
  return lines;
}

std::string ClipLearner::weights_name(const std::filesystem::path& step_directory) const {
  const ClipFiles saved = read_clip_files(step_directory);
  model::ClipConfig config = saved.config;
  config.initializer_range = job_->model.initializer_range;  // was for its first weights
  if (config != job_->model || saved.objective != job_->batch.objective) {
    throw base::InputError(fmt::format(
        "{} is of another model of clips, or objective, than the job's: there {}here {}",
        step_directory.string(), clip_config_json(saved), clip_config_json(files())));
  }
  return checkpoint::kWeightsName;
}

CheckpointExtras ClipLearner::checkpoint_extras() const {
  CheckpointExtras extras;
  extras.texts.push_back({checkpoint::kConfigName, clip_config_json(files())});
  return extras;
}

ClipPasses ClipLearner::mine(const std::vector<std::vector<ClipSample>>& micro_batches) const {
  return layout_.passes(micro_batches, world_->rank() / layout_.sequence);
}

bool ClipLearner::begin_step(std::int64_t step) {
  passes_ = mine(corpus_->micro_batches(step));
  return false;
}

std::optional<ValidationMetrics> ClipLearner::validate() {
  const auto micro_batches = corpus_->validation();
  if (micro_batches.empty()) return std::nullopt;
  std::vector<double> sums(3);
  for (const std::vector<ClipSample>& samples : mine(micro_batches)) {
    const ClipStep::Errors errors = step_->evaluate(samples);
    sums[0] += errors.model;
    sums[1] += errors.copies;
    sums[2] += errors.targets;
  }
  world_->all_reduce_sum(sums);
  ValidationMetrics metrics;
  metrics.validation_loss = sums[0] / sums[2];
  if (job_->objective() == ClipObjective::kNextFrame) {
    metrics.psnr = psnr_of(sums[0] / sums[2]);
    metrics.copy_psnr = psnr_of(sums[1] / sums[2]);
  }
  return metrics;
}

class ClipTask : public TrainingTask {
 public:
  ClipTask(ClipJob job, comm::Communicator& world) : job_(std::move(job)), world_(&world) {
    clip_ranks(job_, world.size());
  }

  const CommonJob& job() const override { return job_; }
  std::string job_json() const override { return to_json(job_); }

  std::string open_data() override {
    corpus_ = std::make_unique<ClipCorpus>(job_);
    return corpus_->sampling();
  }
  std::vector<std::string> data_notes() const override { return {}; }

  Fit fit(const PlanSetting& setting) const override { return check_clip_fit(job_, setting); }
  std::string plan_text(const PlanSetting& setting) const override {
    return train::plan_text(make_clip_plan(job_, setting));
  }
  std::string remedies_text(const PlanSetting& setting) const override {
    return clip_remedies_text(job_, setting);
  }
  std::string settle() override { return ""; }
  std::uint64_t check_files() const override { return clip_checkpoint_bytes(job_); }

  std::unique_ptr<backend::Backend> make_host() const override {
    return make_clip_host(job_, *world_);
  }
  std::unique_ptr<Learner> make_learner(const LearnerDevices& devices,
                                        std::int64_t /*last_step*/) override {
    return std::make_unique<ClipLearner>(job_, *corpus_, devices);
  }

 private:
  ClipJob job_;
  comm::Communicator* world_;
  std::unique_ptr<ClipCorpus> corpus_;
};

}  // namespace

std::unique_ptr<TrainingTask> make_clip_task(ClipJob job, comm::Communicator& world) {
  return std::make_unique<ClipTask>(std::move(job), world);
}

}  // namespace longspan::train
