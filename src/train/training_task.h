#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"
#include "longspan/train/clip_job.h"
#include "longspan/train/plan.h"
#include "train/metrics.h"
#include "train/parameter_step.h"
#include "train/training_state.h"

namespace longspan::train {

/// A model on a run's devices and what it learns from, for a loop of steps that knows neither.
/// Every rank has one and calls the same, unless said otherwise. `step` counts from 0.
class Learner {
 public:
  virtual ~Learner() = default;
  Learner() = default;
  Learner(const Learner&) = delete;
  Learner& operator=(const Learner&) = delete;

  /// Model, data, batch and layout, a line each, as a run shows them.
  virtual std::vector<std::string> description() const = 0;
  virtual ParameterStep& parameters() = 0;

  /// Takes weights that files beside the run hold, where it begins with such: `is_new` unless a
  /// checkpoint follows. Gives what was read; empty: nothing. Agreed on by the caller.
  virtual std::string begin_from_files(bool is_new) = 0;
  /// The file of a checkpoint's weights. Throws InputError where it is of something else; agreed on
  /// by the caller.
  virtual std::string weights_name(const std::filesystem::path& step_directory) const = 0;
  /// On rank 0. This must outlive them.
  virtual CheckpointExtras checkpoint_extras() const = 0;

  /// Reads what this rank runs in a step, and runs it for ParameterStep::prepare; as that returns.
  virtual bool begin_step(std::int64_t step) = 0;
  /// See ParameterStep::forward_backward. Behind begin_step.
  virtual StepSums run_step(std::int64_t step) = 0;
  /// Of the last step, on rank 0; nothing where it was not planned.
  virtual std::optional<PlanMetrics> plan_metrics() const = 0;
  /// On data that are held out; nothing where there are none. Its step is not set.
  virtual std::optional<ValidationMetrics> validate() = 0;
};

/// Where a learner computes. All must outlive it.
struct LearnerDevices {
  comm::Communicator* world = nullptr;  ///< for what lies in the host's memory
  comm::Communicator* ranks = nullptr;  ///< the same ranks as their devices reach each other
  backend::Backend* backend = nullptr;
  backend::Backend* host = nullptr;  ///< null where the job offloads nothing
};

/// What a job trains, on what: as far as that can be told before there is a device.
class TrainingTask {
 public:
  virtual ~TrainingTask() = default;
  TrainingTask() = default;
  TrainingTask(const TrainingTask&) = delete;
  TrainingTask& operator=(const TrainingTask&) = delete;

  virtual const CommonJob& job() const = 0;
  virtual std::string job_json() const = 0;

  /// Opens and checks the data. Gives what the order of samples depends on: a checkpoint goes on
  /// with the same alone. Throws InputError; agreed on by the caller.
  virtual std::string open_data() = 0;
  /// What a user should know of the data, a line each.
  virtual std::vector<std::string> data_notes() const = 0;

  /// Whether a step fits, what it takes, and what would take less.
  virtual Fit fit(const PlanSetting& setting) const = 0;
  virtual std::string plan_text(const PlanSetting& setting) const = 0;
  virtual std::string remedies_text(const PlanSetting& setting) const = 0;
  /// Settles what the job leaves to be chosen. Gives that in words; empty: nothing.
  virtual std::string settle() = 0;
  /// Whether files that the run begins with are what they must be, by their headers. Gives the
  /// bytes of tensors in a checkpoint. Throws InputError.
  virtual std::uint64_t check_files() const = 0;

  /// Memory of the host for what is offloaded; null: nothing is.
  virtual std::unique_ptr<backend::Backend> make_host() const = 0;
  /// For the steps before `last_step`; behind all others. This must outlive the learner.
  virtual std::unique_ptr<Learner> make_learner(const LearnerDevices& devices,
                                                std::int64_t last_step) = 0;
};

/// Jobs of texts and of clips. Throw InputError where the world's ranks cannot train it; agreed on
/// by the caller. Every rank of the world, which must outlive this, calls them.
std::unique_ptr<TrainingTask> make_text_task(Job job, comm::Communicator& world);
std::unique_ptr<TrainingTask> make_clip_task(ClipJob job, comm::Communicator& world);

}  // namespace longspan::train
