#include "longspan/train/trainer.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/checkpoint/store.h"
#include "longspan/train/device.h"
#include "longspan/train/plan.h"
#include "longspan/train/signals.h"
#include "train/corpus.h"
#include "train/dry_step.h"
#include "train/group_costs.h"
#include "train/metrics.h"
#include "train/parallel_layout.h"
#include "train/planner.h"
#include "train/report.h"
#include "train/resources.h"
#include "train/run_directory.h"
#include "train/slot_choice.h"
#include "train/starting_point.h"
#include "train/states.h"
#include "train/step_plan.h"
#include "train/trace/step_trace.h"
#include "train/training_state.h"
#include "train/training_step.h"

namespace longspan::train {
namespace {

using base::InputError;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Trainer {
 public:
  Trainer(Job job, comm::Communicator& world, const TrainOptions& options);
  Outcome run();

 private:
  void open_data();
  void check_plan();
  void make_planner();
  void build_model();
  void begin();
  void begin_from_files(bool is_new);
  void open_record();
  void check_files();
  std::int64_t checkpoints_to_come() const;
  void warn_of_slow_path();
  StepMetrics step();
  StepMetrics traced_step();
  void write_trace(bool stops);
  std::vector<RankPass> my_passes();
  bool finish_step(StepMetrics& metrics);
  void draw_picture();
  void guard_skips() const;
  std::vector<std::vector<data::Span>> validation_rows() const;
  void validate();
  StateReader state_reader();
  void save();

  bool leads() const { return world_->rank() == 0; }

  Job job_;
  comm::Traffic before_;  // what was sent before the present step
  comm::Communicator* world_;
  TrainOptions options_;
  std::int64_t last_step_;
  Report report_;
  std::optional<RunDirectory> directory_;  // rank 0
  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<Planner> planner_;
  KindPolicies policies_;             // of the kinds in its plans
  std::unique_ptr<StepTrace> trace_;  // where one was asked for
  std::unique_ptr<backend::Backend> backend_;
  std::unique_ptr<backend::Backend> host_;       // where the job offloads anything
  std::unique_ptr<comm::Communicator> devices_;  // see link_devices
  std::unique_ptr<comm::Communicator> traced_;   // with a trace
  std::optional<shard::Meshes> meshes_;
  std::unique_ptr<TrainingStep> step_;
  std::optional<MetricsWriter> record_;  // rank 0
  Progress progress_;
  Heritage heritage_;  // rank 0
  double peak_gflops_ = 0;
  std::string slow_path_;  // that was told
};

Trainer::Trainer(Job job, comm::Communicator& world, const TrainOptions& options)
    : job_(std::move(job)),
      world_(&world),
      options_(options),
      last_step_(options.until_step > 0 ? std::min(options.until_step, job_.training.steps)
                                        : job_.training.steps),
      report_(world.rank() == 0) {
  omp_set_num_threads(thread_count(job_, world.local_size()));
  if (!options_.trace_file.empty()) {
    trace_ = std::make_unique<StepTrace>(options_.trace_file, options_.trace_steps);
  }
  comm::run_agreed(world, [&] {
    parallel_layout(job_, world.size());
    if (leads() && trace_) trace_->check_file();
    if (leads()) directory_.emplace(job_.run.output_dir);
  });
  open_data();
  check_plan();
  const std::string choice = choose_for_all(job_, world);
  if (!options_.dry_run && !choice.empty()) report_.note(choice);
  if (options_.dry_run) return;
  make_planner();
  build_model();
  begin();
  open_record();
}

void Trainer::open_data() {
  comm::run_agreed(
      *world_, [&] { corpus_ = std::make_unique<Corpus>(job_, world_->rank(), world_->size()); });
  progress_.sampling = fmt::format(
      "seed {}, {}, {}, rows of {} tokens, {} tokens a step, validation fraction {}, {}",
      job_.run.seed, job_.parallel.plans_steps() ? "single documents" : job_.data.packing,
      job_.data.shuffle ? "shuffled" : "in order", job_.training.micro_batch_tokens,
      job_.training.tokens_per_step, job_.data.validation_fraction, corpus_->fingerprint());
  for (const std::string& line : corpus_->blend_report()) report_.note(line);
}

/// Refuses a job whose step will not fit into memory, with what it would need and what would help;
/// a dry run shows the plan in any case.
void Trainer::check_plan() {
  comm::run_agreed(*world_, [&] {
    if (!leads()) return;
    const backend::DeviceProfile device = device_profile(job_);
    if (device.kind != job_.run.device) {
      throw InputError(
          fmt::format("run.device_profile \"{}\" is a {} device, but run.device is \"{}\"; set "
                      "run.device_profile to \"{}\" to train there",
                      job_.run.device_profile, device.kind, job_.run.device, job_.run.device));
    }
    check_offload(job_, device.kind);
    if (options_.force && !options_.dry_run) return;
    const PlanSetting setting = PlanSetting::of(job_, *world_);
    const bool fits = check_fit(job_, setting).fits();
    if (fits && !options_.dry_run) return;
    const std::string text = plan_text(make_plan(job_, setting));
    if (options_.dry_run) report_.note(text);
    if (fits || options_.force) return;
    throw base::OutOfMemoryError(
        fmt::format("the job will not fit into memory.limit (or the machine's memory); change it, "
                    "or start it all the same with --force\n{}{}",
                    options_.dry_run ? "" : text + "\n", remedies_text(job_, setting)));
  });
}

void Trainer::make_planner() {
  if (!job_.parallel.plans_steps()) {
    planner_ = make_fixed_planner(job_, world_->size());
    return;
  }
  plan::CostModel costs;
  comm::run_agreed(*world_, [&] {
    if (leads()) costs = group_costs(job_, PlanSetting::of(job_, *world_));
  });
  const auto lengths = [this](std::int64_t step) {
    return row_lengths(corpus_->training().rows(step));
  };
  planner_ = make_step_planner(job_, costs, *world_, lengths, last_step_);
  policies_ = policies_of(job_, planner_->levels());
}

void Trainer::build_model() {
  comm::run_agreed(*world_, [&] {
    backend_ = make_device(job_, *world_);
    host_ = make_host(job_, *world_);
  });
  if (trace_) {
    trace_->observe_device(*backend_);
    if (host_) trace_->observe_host(*host_);
  }
  std::string why_not;
  devices_ = link_devices(*world_, *backend_, &why_not);
  if (!why_not.empty()) {
    report_.warning(fmt::format("tensors travel through the hosts' memory: {}", why_not));
  }
  comm::Communicator& plain = devices_ ? *devices_ : *world_;
  if (trace_) traced_ = trace_->ranks(plain);
  comm::Communicator& ranks = traced_ ? *traced_ : plain;
  meshes_.emplace(ranks, planner_->degrees());
  comm::run_agreed(*world_, [&] {
    step_ = std::make_unique<TrainingStep>(job_, *backend_, ranks, host_.get());
  });
  world_->barrier();  // all ranks measure at once: they share the machine later, too
  peak_gflops_ = peak_gflops(job_);
  report_.start(job_, planner_->text(), *backend_, ranks, peak_gflops_, corpus_->fingerprint());
}

/// With new weights, those of model.from, or where a checkpoint left off.
void Trainer::begin() {
  std::string chosen;
  comm::run_agreed(*world_, [&] {
    if (leads()) chosen = starting_point(job_, directory_->checkpoints(), report_).string();
  });
  world_->broadcast(chosen, 0);
  if (!job_.model_from.empty()) begin_from_files(chosen.empty());
  if (chosen.empty()) return;
  comm::run_agreed(*world_, [&] {
    check_adapter_of(chosen, job_);
    const std::string sampling = progress_.sampling;
    progress_ = load_checkpoint(chosen, step_->model(), step_->optimizer(), *backend_);
    if (progress_.sampling != sampling) {
      throw InputError(fmt::format(
          "{} was trained on other samples than this job's, so none could be told seen or unseen: "
          "there \"{}\", here \"{}\"; set the job's data and batch back, or start a new run",
          chosen, progress_.sampling, sampling));
    }
  });
  report_.resumed(progress_.step, chosen);
}

/// A checkpoint of an adapter is without its base.
void Trainer::begin_from_files(bool is_new) {
  if (!is_new && !job_.lora()) return;
  const auto start = Clock::now();
  std::string what;
  comm::run_agreed(*world_, [&] { what = load_files(job_, *step_, *backend_, *world_, is_new); });
  report_.note(fmt::format("{}, read in {:.1f} s", what, seconds_since(start)));
}

void Trainer::open_record() {
  comm::run_agreed(*world_, [&] {
    if (!leads()) return;
    heritage_ = heritage_of(job_, corpus_->tokenizer());
    StateReader reader = state_reader();
    const auto contents = checkpoint_contents(step_->model(), reader, progress_, heritage_);
    const std::uint64_t bytes = checkpoint::Store::bytes_of(contents);
    if (progress_.step < last_step_) directory_->check_free_space(bytes, checkpoints_to_come());
    base::replace_file(directory_->path() / "job.json", to_json(job_));
    record_.emplace(directory_->path(), progress_.step, job_.logging.tensorboard);
  });
}

/// How many more of them there will be at once, while the newest is written beside those kept.
std::int64_t Trainer::checkpoints_to_come() const {
  const std::int64_t every = job_.checkpoint.every;
  const std::int64_t in_between = every > 0 ? (last_step_ - 1) / every - progress_.step / every : 0;
  const std::int64_t to_come = in_between + 1;
  if (job_.checkpoint.keep_last == 0) return to_come;
  const auto there =
      static_cast<std::int64_t>(checkpoint::Store(directory_->checkpoints()).steps().size());
  return std::max<std::int64_t>(std::min(to_come, job_.checkpoint.keep_last + 1 - there), 1);
}

/// What a dry run does at last: the model to begin with, as far as headers tell, and the disk.
void Trainer::check_files() {
  comm::run_agreed(*world_, [&] {
    if (!leads()) return;
    check_files_of(job_);
    directory_->check_free_space(checkpoint_bytes(job_), checkpoints_to_come());
  });
  report_.note("dry run: job, files, disk and memory are in order; nothing was trained");
}

Outcome Trainer::run() {
  if (options_.dry_run) {
    check_files();
    return Outcome::kDone;
  }
  if (progress_.step >= last_step_) {
    report_.note(fmt::format("nothing to do{}: {} of {} steps are done",
                             trace_ ? " and to trace" : "", progress_.step, last_step_));
    return Outcome::kDone;
  }
  bool stop = false;
  if (trace_) trace_->choose_steps(progress_.step, last_step_);
  while (progress_.step < last_step_ && !stop) {
    StepMetrics metrics = trace_ ? traced_step() : step();
    stop = finish_step(metrics);
    if (trace_) write_trace(stop);
    const std::int64_t every = job_.training.validation_every;
    const bool last = progress_.step == last_step_;
    if (stop) save();  // first: there may not be time for more
    if (last || (every > 0 && progress_.step % every == 0)) validate();
    const std::int64_t save_every = job_.checkpoint.every;
    if (!stop && (last || (save_every > 0 && progress_.step % save_every == 0))) save();
    guard_skips();
  }
  if (leads()) draw_picture();
  return stop && progress_.step < last_step_ ? Outcome::kStoppedBySignal : Outcome::kDone;
}

/// What was trained is saved: a picture that cannot be drawn is not worth the run.
void Trainer::draw_picture() {
  try {
    const auto picture = draw_loss_curves(directory_->path(), job_.run.name);
    report_.note(fmt::format("loss curves: {}", picture.string()));
  } catch (const InputError& error) {
    report_.warning(fmt::format("there is no picture of the loss: {}", error.what()));
  }
}

/// What this rank runs of this step.
std::vector<RankPass> Trainer::my_passes() {
  const auto rows = corpus_->training().rows(progress_.step);
  ReadSequence read = [&](std::size_t row) {
    return std::make_shared<const data::MicroBatch>(corpus_->training().read(rows[row]));
  };
  if (job_.draws_by_token()) read = numbered(std::move(read), row_lengths(rows));
  return passes_of(planner_->plan(progress_.step), *meshes_, read, policies_);
}

/// Once for each reason.
void Trainer::warn_of_slow_path() {
  std::string path = backend_->slow_path();
  if (path.empty() || path == slow_path_) return;
  slow_path_ = std::move(path);
  report_.warning(fmt::format("slow: {}", slow_path_));
}

StepMetrics Trainer::step() {
  auto start = Clock::now();
  before_ = world_->traffic();
  comm::set_step(progress_.step + 1);
  const std::vector<RankPass> passes = my_passes();
  if (step_->prepare(passes, progress_.step)) {  // is of the run, not of a step
    start = Clock::now();
    before_ = world_->traffic();
  }
  backend_->reset_peaks();  // of this step alone, so that a resumed run tells the same
  const TrainingStep::Sums sums = step_->forward_backward(passes, progress_.step);
  StepMetrics metrics;
  metrics.loss = sums.loss();
  metrics.tokens = static_cast<std::int64_t>(sums.tokens);
  const TrainingStep::Update update = step_->update(progress_.step, metrics.loss);
  metrics.grad_norm = update.grad_norm;
  if (job_.velora.is_on()) metrics.compressed_grad_norm = update.compressed_grad_norm;
  metrics.lr = update.lr;
  progress_.skipped += update.skipped ? 1 : 0;
  if (sums.targets == 0) {  // as with chats whose answers do not count: it is no sign of trouble
    report_.warning(fmt::format("step {} is skipped: none of its tokens counts in the loss",
                                progress_.step + 1));
  } else {
    progress_.skipped_in_row = update.skipped ? progress_.skipped_in_row + 1 : 0;
  }
  progress_.updates = step_->optimizer().updates();
  progress_.tokens += metrics.tokens;
  metrics.step = ++progress_.step;
  backend_->synchronize();
  metrics.skipped = progress_.skipped;
  metrics.step_seconds = seconds_since(start);
  metrics.plan = planner_->metrics();
  warn_of_slow_path();
  metrics.tokens_per_second = sums.tokens / metrics.step_seconds;
  metrics.model_flops_utilization =
      sums.flops / metrics.step_seconds / (peak_gflops_ * 1e9 * world_->size());
  return metrics;
}

StepMetrics Trainer::traced_step() {
  const std::int64_t number = progress_.step + 1;
  if (!trace_->is_due(number)) return step();
  comm::set_step(number);
  trace_->begin_step(number, *world_);
  StepMetrics metrics = step();
  trace_->end_step();
  return metrics;
}

/// As soon as all of it is there. It is not worth a run that cannot write it.
void Trainer::write_trace(bool stops) {
  if (!trace_->is_over(progress_.step, stops)) return;
  try {
    report_.note(trace_->write(*world_));
  } catch (const InputError& error) {
    report_.warning(fmt::format("there is no trace: {}", error.what()));
  }
}

/// Gathers the other ranks' figures, records the step, and tells whether to stop.
bool Trainer::finish_step(StepMetrics& metrics) {
  const comm::Traffic now = world_->traffic();
  std::vector<double> sums;
  for (const comm::Collective kind : comm::kCollectives) {
    sums.push_back(static_cast<double>(now[kind] - before_[kind]));
  }
  const auto& ledger = backend_->ledger();
  std::vector<double> maxima = {StopSignals::requested() ? 1.0 : 0.0,
                                static_cast<double>(ledger.peak_total())};
  for (std::size_t tag = 0; tag < backend::kMemoryTags; ++tag) {
    maxima.push_back(static_cast<double>(ledger.peak(static_cast<backend::MemoryTag>(tag))));
  }
  world_->all_reduce_sum(sums);
  world_->all_reduce_max(maxima);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    metrics.comm_bytes[comm::name_of(comm::kCollectives[i])] = static_cast<std::uint64_t>(sums[i]);
  }
  metrics.peak_bytes["total"] = static_cast<std::uint64_t>(maxima[1]);
  for (std::size_t tag = 0; tag < backend::kMemoryTags; ++tag) {
    metrics.peak_bytes[name_of(static_cast<backend::MemoryTag>(tag))] =
        static_cast<std::uint64_t>(maxima[tag + 2]);
  }
  if (record_) record_->write(metrics);
  if (metrics.step % job_.logging.every == 0 || metrics.step == last_step_) {
    report_.step(metrics, job_.training.steps);
  }
  if (progress_.skipped_in_row > 0) {
    report_.warning(fmt::format("step {} is skipped: loss {}, gradient norm {}", metrics.step,
                                metrics.loss, metrics.grad_norm));
  }
  return maxima[0] > 0;
}

void Trainer::guard_skips() const {
  if (progress_.skipped_in_row < job_.training.max_skipped_steps) return;
  throw base::Error(base::ExitCode::kInternal,
                    fmt::format("training stops after step {}: loss or gradients were not finite "
                                "for {} steps in a row (training.max_skipped_steps); lower "
                                "optimizer.learning_rate, or resume from an earlier checkpoint",
                                progress_.step, progress_.skipped_in_row),
                    true);
}

/// Rows of the validation documents, as many as training.validation_tokens allows.
std::vector<std::vector<data::Span>> Trainer::validation_rows() const {
  std::vector<std::vector<data::Span>> rows;
  std::int64_t tokens = 0;
  for (auto& row : corpus_->validation()->epoch_rows(0)) {
    if (job_.training.validation_tokens > 0 && tokens >= job_.training.validation_tokens) break;
    for (const auto& span : row) tokens += span.end - span.begin;
    rows.push_back(std::move(row));
  }
  return rows;
}

void Trainer::validate() {
  if (corpus_->validation() == nullptr) return;
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
  for (std::size_t row = 0; leads() && row < rows.size(); ++row) {
    const double bytes = corpus_->validation_bytes(rows[row]);
    sums[2] += std::max(bytes, 0.0);
    sums[3] += bytes < 0 ? 1.0 : 0.0;
  }
  world_->all_reduce_sum(sums);
  ValidationMetrics metrics;
  metrics.step = progress_.step;
  metrics.validation_loss = sums[0] / sums[1];
  if (sums[3] == 0 && sums[2] > 0) metrics.bits_per_byte = sums[0] / std::log(2.0) / sums[2];
  if (record_) record_->write(metrics);
  report_.validation(metrics);
}

StateReader Trainer::state_reader() {
  return {step_->model().trained(), step_->optimizer(), *backend_, *world_};
}

/// Rank 0 writes, and the others send it what they alone hold.
void Trainer::save() {
  StateReader reader = state_reader();
  reader.run([&] {
    const auto start = Clock::now();
    record_->sync();
    checkpoint::Store store(directory_->checkpoints());
    const auto path = store.save(progress_.step,
                                 checkpoint_contents(step_->model(), reader, progress_, heritage_),
                                 job_.checkpoint.keep_last);
    report_.saved(progress_.step, path.string(), seconds_since(start));
  });
}

}  // namespace

Outcome train(Job job, comm::Communicator& world, const TrainOptions& options) {
  return Trainer(std::move(job), world, options).run();
}

}  // namespace longspan::train
