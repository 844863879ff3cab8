#include "longspan/train/trainer.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <variant>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/checkpoint/store.h"
#include "longspan/train/device.h"
#include "longspan/train/plan.h"
#include "longspan/train/signals.h"
#include "train/metrics.h"
#include "train/report.h"
#include "train/resources.h"
#include "train/run_directory.h"
#include "train/starting_point.h"
#include "train/states.h"
#include "train/trace/step_trace.h"
#include "train/training_state.h"
#include "train/training_task.h"

namespace longspan::train {
namespace {

using base::InputError;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The loop of a run, whatever is trained.
class Trainer {
 public:
  Trainer(std::unique_ptr<TrainingTask> task, comm::Communicator& world,
          const TrainOptions& options);
  Outcome run();

 private:
  void open_data();
  void check_plan();
  void make_devices();
  void begin();
  void begin_from_files(bool is_new);
  void open_record();
  void check_files();
  std::int64_t checkpoints_to_come() const;
  void warn_of_slow_path();
  StepMetrics step();
  StepMetrics traced_step();
  void write_trace(bool stops);
  void count(StepMetrics& metrics, const StepSums& sums, const StepUpdate& update);
  bool finish_step(StepMetrics& metrics);
  void draw_picture();
  void guard_skips() const;
  void validate();
  StateReader state_reader();
  checkpoint::Contents contents(StateReader& reader);
  void save();

  const CommonJob& job() const { return task_->job(); }
  bool leads() const { return world_->rank() == 0; }

  std::unique_ptr<TrainingTask> task_;
  comm::Traffic before_;  // what was sent before the present step
  comm::Communicator* world_;
  TrainOptions options_;
  std::int64_t last_step_;
  Report report_;
  std::optional<RunDirectory> directory_;  // rank 0
  std::unique_ptr<StepTrace> trace_;       // where one was asked for
  std::unique_ptr<backend::Backend> backend_;
  std::unique_ptr<backend::Backend> host_;       // where the job offloads anything
  std::unique_ptr<comm::Communicator> devices_;  // see link_devices
  std::unique_ptr<comm::Communicator> traced_;   // with a trace
  std::unique_ptr<Learner> learner_;
  std::optional<MetricsWriter> record_;  // rank 0
  Progress progress_;
  CheckpointExtras extras_;  // rank 0
  double peak_gflops_ = 0;
  std::string slow_path_;  // that was told
};

Trainer::Trainer(std::unique_ptr<TrainingTask> task, comm::Communicator& world,
                 const TrainOptions& options)
    : task_(std::move(task)),
      world_(&world),
      options_(options),
      last_step_(options.until_step > 0 ? std::min(options.until_step, job().training.steps)
                                        : job().training.steps),
      report_(world.rank() == 0) {
  omp_set_num_threads(thread_count(job(), world.local_size()));
  if (!options_.trace_file.empty()) {
    trace_ = std::make_unique<StepTrace>(options_.trace_file, options_.trace_steps);
  }
  comm::run_agreed(world, [&] {
    if (leads() && trace_) trace_->check_file();
    if (leads()) directory_.emplace(job().run.output_dir);
  });
  open_data();
  check_plan();
  const std::string choice = task_->settle();
  if (!options_.dry_run && !choice.empty()) report_.note(choice);
  if (options_.dry_run) return;
  make_devices();
  begin();
  open_record();
}

void Trainer::open_data() {
  comm::run_agreed(*world_, [&] { progress_.sampling = task_->open_data(); });
  for (const std::string& line : task_->data_notes()) report_.note(line);
}

/// Refuses a job whose step will not fit into memory, with what it would need and what would help;
/// a dry run shows the plan in any case.
void Trainer::check_plan() {
  comm::run_agreed(*world_, [&] {
    if (!leads()) return;
    const backend::DeviceProfile device = device_profile(job());
    if (device.kind != job().run.device) {
      throw InputError(
          fmt::format("run.device_profile \"{}\" is a {} device, but run.device is \"{}\"; set "
                      "run.device_profile to \"{}\" to train there",
                      job().run.device_profile, device.kind, job().run.device, job().run.device));
    }
    check_offload(job(), device.kind);
    if (options_.force && !options_.dry_run) return;
    const PlanSetting setting = PlanSetting::of(job(), *world_);
    const bool fits = task_->fit(setting).fits();
    if (fits && !options_.dry_run) return;
    const std::string text = task_->plan_text(setting);
    if (options_.dry_run) report_.note(text);
    if (fits || options_.force) return;
    throw base::OutOfMemoryError(
        fmt::format("the job will not fit into memory.limit (or the machine's memory); change it, "
                    "or start it all the same with --force\n{}{}",
                    options_.dry_run ? "" : text + "\n", task_->remedies_text(setting)));
  });
}

void Trainer::make_devices() {
  comm::run_agreed(*world_, [&] {
    backend_ = make_device(job(), *world_);
    host_ = task_->make_host();
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
  learner_ = task_->make_learner({world_, &ranks, backend_.get(), host_.get()}, last_step_);
  world_->barrier();  // all ranks measure at once: they share the machine later, too
  peak_gflops_ = peak_gflops(job());
  report_.start(job().run, learner_->description(), *backend_, ranks, peak_gflops_);
}

/// With new weights, those of files, or where a checkpoint left off.
void Trainer::begin() {
  std::string chosen;
  comm::run_agreed(*world_, [&] {
    if (leads()) chosen = starting_point(job(), directory_->checkpoints(), report_).string();
  });
  world_->broadcast(chosen, 0);
  begin_from_files(chosen.empty());
  if (chosen.empty()) return;
  comm::run_agreed(*world_, [&] {
    const std::string weights = learner_->weights_name(chosen);
    const std::string sampling = progress_.sampling;
    progress_ = load_checkpoint(chosen, learner_->parameters(), *backend_, weights);
    if (progress_.sampling != sampling) {
      throw InputError(fmt::format(
          "{} was trained on other samples than this job's, so none could be told seen or unseen: "
          "there \"{}\", here \"{}\"; set the job's data and batch back, or start a new run",
          chosen, progress_.sampling, sampling));
    }
  });
  report_.resumed(progress_.step, chosen);
}

void Trainer::begin_from_files(bool is_new) {
  const auto start = Clock::now();
  std::string what;
  comm::run_agreed(*world_, [&] { what = learner_->begin_from_files(is_new); });
  if (what.empty()) return;
  report_.note(fmt::format("{}, read in {:.1f} s", what, seconds_since(start)));
}

void Trainer::open_record() {
  comm::run_agreed(*world_, [&] {
    if (!leads()) return;
    extras_ = learner_->checkpoint_extras();
    StateReader reader = state_reader();
    const std::uint64_t bytes = checkpoint::Store::bytes_of(contents(reader));
    if (progress_.step < last_step_) directory_->check_free_space(bytes, checkpoints_to_come());
    base::replace_file(directory_->path() / "job.json", task_->job_json());
    record_.emplace(directory_->path(), progress_.step, job().logging.tensorboard);
  });
}

/// How many more of them there will be at once, while the newest is written beside those kept.
std::int64_t Trainer::checkpoints_to_come() const {
  const std::int64_t every = job().checkpoint.every;
  const std::int64_t in_between = every > 0 ? (last_step_ - 1) / every - progress_.step / every : 0;
  const std::int64_t to_come = in_between + 1;
  if (job().checkpoint.keep_last == 0) return to_come;
  const auto there =
      static_cast<std::int64_t>(checkpoint::Store(directory_->checkpoints()).steps().size());
  return std::max<std::int64_t>(std::min(to_come, job().checkpoint.keep_last + 1 - there), 1);
}

/// What a dry run does at last: the model to begin with, as far as headers tell, and the disk.
void Trainer::check_files() {
  comm::run_agreed(*world_, [&] {
    if (!leads()) return;
    directory_->check_free_space(task_->check_files(), checkpoints_to_come());
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
    const std::int64_t every = job().training.validation_every;
    const bool last = progress_.step == last_step_;
    if (stop) save();  // first: there may not be time for more
    if (last || (every > 0 && progress_.step % every == 0)) validate();
    const std::int64_t save_every = job().checkpoint.every;
    if (!stop && (last || (save_every > 0 && progress_.step % save_every == 0))) save();
    guard_skips();
  }
  if (leads()) draw_picture();
  return stop && progress_.step < last_step_ ? Outcome::kStoppedBySignal : Outcome::kDone;
}

/// What was trained is saved: a picture that cannot be drawn is not worth the run.
void Trainer::draw_picture() {
  try {
    const auto picture = draw_loss_curves(directory_->path(), job().run.name);
    report_.note(fmt::format("loss curves: {}", picture.string()));
  } catch (const InputError& error) {
    report_.warning(fmt::format("there is no picture of the loss: {}", error.what()));
  }
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
  if (learner_->begin_step(progress_.step)) {  // is of the run, not of a step
    start = Clock::now();
    before_ = world_->traffic();
  }
  backend_->reset_peaks();  // of this step alone, so that a resumed run tells the same
  const StepSums sums = learner_->run_step(progress_.step);
  StepMetrics metrics;
  metrics.loss = sums.loss();
  const StepUpdate update = learner_->parameters().update(progress_.step, metrics.loss);
  count(metrics, sums, update);
  backend_->synchronize();
  metrics.step_seconds = seconds_since(start);
  metrics.plan = learner_->plan_metrics();
  warn_of_slow_path();
  metrics.tokens_per_second = sums.tokens / metrics.step_seconds;
  metrics.model_flops_utilization =
      sums.flops / metrics.step_seconds / (peak_gflops_ * 1e9 * world_->size());
  return metrics;
}

/// A step more: in its figures and in the run's.
void Trainer::count(StepMetrics& metrics, const StepSums& sums, const StepUpdate& update) {
  metrics.tokens = static_cast<std::int64_t>(sums.tokens);
  metrics.grad_norm = update.grad_norm;
  if (learner_->parameters().parameters().directions().count() > 0) {
    metrics.compressed_grad_norm = update.compressed_grad_norm;
  }
  metrics.lr = update.lr;
  progress_.skipped += update.skipped ? 1 : 0;
  if (sums.targets == 0) {  // as with chats whose answers do not count: it is no sign of trouble
    report_.warning(fmt::format("step {} is skipped: none of its tokens counts in the loss",
                                progress_.step + 1));
  } else {
    progress_.skipped_in_row = update.skipped ? progress_.skipped_in_row + 1 : 0;
  }
  progress_.updates = learner_->parameters().optimizer().updates();
  progress_.tokens += metrics.tokens;
  metrics.step = ++progress_.step;
  metrics.skipped = progress_.skipped;
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
  if (metrics.step % job().logging.every == 0 || metrics.step == last_step_) {
    report_.step(metrics, job().training.steps);
  }
  if (progress_.skipped_in_row > 0) {
    report_.warning(fmt::format("step {} is skipped: loss {}, gradient norm {}", metrics.step,
                                metrics.loss, metrics.grad_norm));
  }
  return maxima[0] > 0;
}

void Trainer::guard_skips() const {
  if (progress_.skipped_in_row < job().training.max_skipped_steps) return;
  throw base::Error(base::ExitCode::kInternal,
                    fmt::format("training stops after step {}: loss or gradients were not finite "
                                "for {} steps in a row (training.max_skipped_steps); lower "
                                "optimizer.learning_rate, or resume from an earlier checkpoint",
                                progress_.step, progress_.skipped_in_row),
                    true);
}

void Trainer::validate() {
  std::optional<ValidationMetrics> metrics = learner_->validate();
  if (!metrics) return;
  metrics->step = progress_.step;
  if (record_) record_->write(*metrics);
  report_.validation(*metrics);
}

StateReader Trainer::state_reader() {
  ParameterStep& parameters = learner_->parameters();
  return {parameters.parameters(), parameters.optimizer(), *backend_, *world_};
}

checkpoint::Contents Trainer::contents(StateReader& reader) {
  return checkpoint_contents(learner_->parameters().parameters(), reader, progress_, extras_);
}

/// Rank 0 writes, and the others send it what they alone hold.
void Trainer::save() {
  StateReader reader = state_reader();
  reader.run([&] {
    const auto start = Clock::now();
    record_->sync();
    checkpoint::Store store(directory_->checkpoints());
    const auto path = store.save(progress_.step, contents(reader), job().checkpoint.keep_last);
    report_.saved(progress_.step, path.string(), seconds_since(start));
  });
}

}  // namespace

Outcome train(AnyJob job, comm::Communicator& world, const TrainOptions& options) {
  std::unique_ptr<TrainingTask> task;
  comm::run_agreed(world, [&] {
    if (auto* text = std::get_if<Job>(&job)) task = make_text_task(std::move(*text), world);
    if (auto* clips = std::get_if<ClipJob>(&job)) task = make_clip_task(std::move(*clips), world);
  });
  return Trainer(std::move(task), world, options).run();
}

}  // namespace longspan::train
