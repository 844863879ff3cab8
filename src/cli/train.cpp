#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/commands.h"
#include "cli/launch.h"
#include "longspan/base/error.h"
#include "longspan/train/clip_job.h"
#include "longspan/train/signals.h"
#include "longspan/train/trainer.h"

namespace longspan::cli {
namespace {

struct Arguments {
  std::string job;
  std::vector<std::string> overrides;
  train::TrainOptions options;
};

int run(const Arguments& arguments) {
  const train::StopSignals signals;  // before MPI starts its threads
  auto start = launch_any(arguments.job, arguments.overrides);
  const auto outcome = train::train(std::move(start.job), *start.world, arguments.options);
  return static_cast<int>(outcome == train::Outcome::kStoppedBySignal
                              ? base::ExitCode::kStoppedBySignal
                              : base::ExitCode::kDone);
}

}  // namespace

void add_train_command(const Command& program, int& exit_code) {
  const Command command = program.subcommand("train", "Train a model as a job file says");
  auto arguments = std::make_shared<Arguments>();
  command.option("job", arguments->job, "Job file (JSON); keys are listed below").required();
  command
      .option("--set", arguments->overrides,
              "Override a key: --set optimizer.learning_rate=1e-3 (repeatable)")
      .one_at_a_time();
  command
      .option("--until-step", arguments->options.until_step,
              "Save and stop after this many steps in all; schedules keep the job's horizon")
      .positive();
  command.flag("--dry-run", arguments->options.dry_run,
               "Check files, disk, memory and job, print the plan, and stop");
  command.flag("--force", arguments->options.force,
               "Start although the plan says that the job will not fit into memory");
  const Option trace =
      command.option("--trace", arguments->options.trace_file,
                     "Write when operations, copies and collectives of each rank ran, in the "
                     "steps after the first, for https://ui.perfetto.dev or chrome://tracing");
  trace.value_name("FILE").not_empty("needs the name of a file");
  command.option("--trace-steps", arguments->options.trace_steps, "With --trace: how many steps")
      .show_default()
      .positive()
      .needs(trace);
  command.footer(
      "Under mpirun or srun every process is one rank; parallel.* says how they share the work.\n"
      "SIGUSR1, SIGTERM or SIGINT: save and leave with exit code 75; the same command resumes.\n\n"
      "Keys of the job file\n" +
      train::job_help() + "\nKeys of a job of clips (model.model_type \"spatial_temporal\")\n" +
      train::clip_job_help());
  command.callback([arguments, &exit_code] { exit_code = run(*arguments); });
}

}  // namespace longspan::cli
