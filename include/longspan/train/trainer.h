#pragma once

#include <cstdint>
#include <string>

#include "longspan/comm/communicator.h"
#include "longspan/train/clip_job.h"

namespace longspan::train {

enum class Outcome : std::uint8_t {
  kDone,             ///< all steps of the job, or `until_step`, are done
  kStoppedBySignal,  ///< SIGUSR1, SIGTERM or SIGINT: saved, to be started again
};

struct TrainOptions {
  /// Save and stop after this many steps in all (0: the job's steps). Schedules keep the job's
  /// horizon: the rest can follow in another run.
  std::int64_t until_step = 0;
  /// Check the job, its files, the free disk and its plan, print the plan and stop: nothing is
  /// trained or written but the run's directory.
  bool dry_run = false;
  /// Start although the plan says that memory will not do.
  bool force = false;
  /// Where to write what the devices, copies and collectives of some steps did when, for
  /// chrome://tracing and ui.perfetto.dev; empty: no trace. The run's first step is not traced
  /// unless it is the only one. Results are the same.
  std::string trace_file;
  /// How many steps are traced, if there are so many.
  std::int64_t trace_steps = 2;
};

/// Runs a job from its newest checkpoint, or from the start. Every rank of `world` calls it with
/// the same arguments. A stop is asked for through StopSignals (train/signals.h). Throws
/// base::Error; what is agreed by all ranks is marked so.
Outcome train(AnyJob job, comm::Communicator& world, const TrainOptions& options);

}  // namespace longspan::train
