// Training on texts: token files, planners, a decoder.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "longspan/train/device.h"
#include "train/adapter_files.h"
#include "train/corpus.h"
#include "train/dry_step.h"
#include "train/group_costs.h"
#include "train/heritage.h"
#include "train/parallel_layout.h"
#include "train/planner.h"
#include "train/report.h"
#include "train/slot_choice.h"
#include "train/starting_point.h"
#include "train/step_plan.h"
#include "train/training_step.h"
#include "train/training_task.h"

namespace longspan::train {
namespace {

class TextLearner : public Learner {
 public:
  TextLearner(const Job& job, Corpus& corpus, const LearnerDevices& devices,
              std::int64_t last_step);

  std::vector<std::string> description() const override;
  ParameterStep& parameters() override { return step_->parameters(); }

  std::string begin_from_files(bool is_new) override {
    // A checkpoint of an adapter is without its base.
    if (job_->model_from.empty() || (!is_new && !job_->lora())) return "";
    return load_files(*job_, *step_, *devices_.backend, *devices_.world, is_new);
  }
  std::string weights_name(const std::filesystem::path& step_directory) const override {
    check_adapter_of(step_directory, *job_);
    return job_->lora() ? kAdapterWeightsName : checkpoint::kWeightsName;
  }
  CheckpointExtras checkpoint_extras() const override {
    return train::checkpoint_extras(step_->model(), heritage_of(*job_, corpus_->tokenizer()));
  }

  bool begin_step(std::int64_t step) override;
  StepSums run_step(std::int64_t step) override { return step_->forward_backward(passes_, step); }
  std::optional<PlanMetrics> plan_metrics() const override { return planner_->metrics(); }
  std::optional<ValidationMetrics> validate() override;

 private:
  void make_planner(std::int64_t last_step);
  std::vector<std::vector<data::Span>> validation_rows() const;

  const Job* job_;
  Corpus* corpus_;
  LearnerDevices devices_;
  std::unique_ptr<Planner> planner_;
  KindPolicies policies_;  // of the kinds in its plans
  std::optional<shard::Meshes> meshes_;
  std::unique_ptr<TrainingStep> step_;
  std::vector<RankPass> passes_;  // of the present step
};

TextLearner::TextLearner(const Job& job, Corpus& corpus, const LearnerDevices& devices,
                         std::int64_t last_step)
    : job_(&job), corpus_(&corpus), devices_(devices) {
  make_planner(last_step);
  meshes_.emplace(*devices.ranks, planner_->degrees());
  comm::run_agreed(*devices.world, [&] {
    step_ = std::make_unique<TrainingStep>(job, *devices.backend, *devices.ranks, devices.host);
  });
}

void TextLearner::make_planner(std::int64_t last_step) {
  comm::Communicator& world = *devices_.world;
  if (!job_->parallel.plans_steps()) {
    planner_ = make_fixed_planner(*job_, world.size());
    return;
  }
  plan::CostModel costs;
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) costs = group_costs(*job_, PlanSetting::of(*job_, world));
  });
  const auto lengths = [this](std::int64_t step) {
    return row_lengths(corpus_->training().rows(step));
  };
  planner_ = make_step_planner(*job_, costs, world, lengths, last_step);
  policies_ = policies_of(*job_, planner_->levels());
}

std::vector<std::string> TextLearner::description() const {
  const model::ModelConfig& model = job_->model;
  std::vector<std::string> lines;
  lines.push_back(fmt::format(
      "model   {} parameters: {} layers, hidden {}, {} heads ({} KV) of {}, MLP {}, "
      "vocabulary {}, {}",
      format_count(static_cast<double>(model.parameters())), model.num_hidden_layers,
      model.hidden_size, model.num_attention_heads, model.num_key_value_heads, model.head_dim,
      model.intermediate_size, model.vocab_size, job_->training.precision));
  if (const auto lora = job_->lora()) {
    lines.push_back(fmt::format("adapter {} parameters are trained: rank {}, scale {:g}, of {}",
                                format_count(static_cast<double>(job_->trained_parameters())),
                                lora->rank, lora->scale(), fmt::join(lora->target_modules, ", ")));
  }
  lines.push_back(fmt::format("data    {}", corpus_->fingerprint()));
  lines.push_back(fmt::format("batch   {} tokens a step in {} of {}, {} steps",
                              job_->training.tokens_per_step,
                              job_->parallel.plans_steps() ? "documents of at most" : "rows",
                              job_->training.micro_batch_tokens, job_->training.steps));
  if (devices_.world->size() > 1) lines.push_back(fmt::format("layout  {}", planner_->text()));
  return lines;
}

bool TextLearner::begin_step(std::int64_t step) {
  const auto rows = corpus_->training().rows(step);
  ReadSequence read = [&](std::size_t row) {
    return std::make_shared<const data::MicroBatch>(corpus_->training().read(rows[row]));
  };
  if (job_->draws_by_token()) read = numbered(std::move(read), row_lengths(rows));
  passes_ = passes_of(planner_->plan(step), *meshes_, read, policies_);
  return step_->prepare(passes_, step);
}

/// Rows of the validation documents, as many as training.validation_tokens allows.
std::vector<std::vector<data::Span>> TextLearner::validation_rows() const {
  std::vector<std::vector<data::Span>> rows;
  const std::int64_t most = job_->training.validation_tokens;
  std::int64_t tokens = 0;
  for (auto& row : corpus_->validation()->epoch_rows(0)) {
    if (most > 0 && tokens >= most) break;
    for (const auto& span : row) tokens += span.end - span.begin;
    rows.push_back(std::move(row));
  }
  return rows;
}

std::optional<ValidationMetrics> TextLearner::validate() {
  if (corpus_->validation() == nullptr) return std::nullopt;
  std::vector<double> sums(4);  // nll, targets, bytes, rows of unknown bytes
  const auto rows = validation_rows();
  const auto read = [&](std::size_t row) {
    return std::make_shared<const data::MicroBatch>(corpus_->validation()->read(rows[row]));
  };
  const plan::StepPlan plan = planner_->plan_rows(static_cast<std::int64_t>(rows.size()));
  for (const plan::MicroBatch& micro_batch : plan.micro_batches) {
    const auto result = step_->evaluate(pass_of(micro_batch, *meshes_, read));
    sums[0] += result.nll_sum;
    sums[1] += static_cast<double>(result.targets);
  }
  const bool leads = devices_.world->rank() == 0;
  for (std::size_t row = 0; leads && row < rows.size(); ++row) {
    const double bytes = corpus_->validation_bytes(rows[row]);
    sums[2] += std::max(bytes, 0.0);
    sums[3] += bytes < 0 ? 1.0 : 0.0;
  }
  devices_.world->all_reduce_sum(sums);
  ValidationMetrics metrics;
  metrics.validation_loss = sums[0] / sums[1];
  if (sums[3] == 0 && sums[2] > 0) metrics.bits_per_byte = sums[0] / std::log(2.0) / sums[2];
  return metrics;
}

class TextTask : public TrainingTask {
 public:
  TextTask(Job job, comm::Communicator& world) : job_(std::move(job)), world_(&world) {
    parallel_layout(job_, world.size());
  }

  const CommonJob& job() const override { return job_; }
  std::string job_json() const override { return to_json(job_); }

  std::string open_data() override;
  std::vector<std::string> data_notes() const override { return corpus_->blend_report(); }

  Fit fit(const PlanSetting& setting) const override { return check_fit(job_, setting); }
  std::string plan_text(const PlanSetting& setting) const override {
    return train::plan_text(make_plan(job_, setting));
  }
  std::string remedies_text(const PlanSetting& setting) const override {
    return train::remedies_text(job_, setting);
  }
  std::string settle() override { return choose_for_all(job_, *world_); }
  std::uint64_t check_files() const override {
    check_files_of(job_);
    return checkpoint_bytes(job_);
  }

  std::unique_ptr<backend::Backend> make_host() const override {
    return train::make_host(job_, *world_);
  }
  std::unique_ptr<Learner> make_learner(const LearnerDevices& devices,
                                        std::int64_t last_step) override {
    return std::make_unique<TextLearner>(job_, *corpus_, devices, last_step);
  }

 private:
  Job job_;
  comm::Communicator* world_;
  std::unique_ptr<Corpus> corpus_;
};

std::string TextTask::open_data() {
  corpus_ = std::make_unique<Corpus>(job_, world_->rank(), world_->size());
  return fmt::format(
      "seed {}, {}, {}, rows of {} tokens, {} tokens a step, validation fraction {}, {}",
      job_.run.seed, job_.parallel.plans_steps() ? "single documents" : job_.data.packing,
      job_.data.shuffle ? "shuffled" : "in order", job_.training.micro_batch_tokens,
      job_.training.tokens_per_step, job_.data.validation_fraction, corpus_->fingerprint());
}

}  // namespace

std::unique_ptr<TrainingTask> make_text_task(Job job, comm::Communicator& world) {
  return std::make_unique<TextTask>(std::move(job), world);
}

}  // namespace longspan::train
