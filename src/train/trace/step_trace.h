#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"
#include "train/trace/backend_observer.h"
#include "train/trace/recorder.h"

namespace longspan::train {

/// The trace of a few steps of a run, in one file of all ranks. What is to be seen in it is told to
/// this, which outlives it.
class StepTrace {
 public:
  /// A trace of `steps` steps.
  StepTrace(std::filesystem::path file, std::int64_t steps);

  /// Throws InputError where the file could not be written, so that nobody trains first. For rank
  /// 0.
  void check_file() const;

  /// The rank's device, by whose clock times are, and a backend of the processor beside it.
  void observe_device(backend::Backend& device);
  void observe_host(backend::Backend& host);
  /// See make_traced_communicator.
  std::unique_ptr<comm::Communicator> ranks(comm::Communicator& ranks);

  /// The run does the steps after `done` up to `last`. Its first one warms up and is not traced,
  /// but where it is the only one.
  void choose_steps(std::int64_t done, std::int64_t last);
  bool is_due(std::int64_t step) const { return first_ <= step && step <= last_; }
  /// Around a step that is due. Called by every rank; all count from the moment when they meet
  /// here first.
  void begin_step(std::int64_t step, comm::Communicator& world);
  void end_step();

  /// After a step: whether no other one will be traced, when the run goes on or `stops`, and what
  /// there is has not been written.
  bool is_over(std::int64_t step, bool stops) const;
  /// Brings all ranks' events to rank 0, which writes them; tells what there is, and where. Called
  /// by every rank of `world`. Throws InputError, on rank 0 alone, where the file cannot be
  /// written.
  std::string write(comm::Communicator& world);

 private:
  std::filesystem::path file_;
  std::int64_t steps_;
  std::int64_t first_ = 0;
  std::int64_t last_ = -1;
  std::int64_t traced_ = 0;  // steps
  Recorder recorder_;
  BackendObserver device_ = BackendObserver::of_device(recorder_);
  BackendObserver host_ = BackendObserver::of_host(recorder_);
};

}  // namespace longspan::train
