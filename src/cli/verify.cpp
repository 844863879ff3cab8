#include "longspan/train/verify.h"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/commands.h"
#include "cli/launch.h"
#include "longspan/base/error.h"

namespace longspan::cli {
namespace {

struct Arguments {
  std::string job;
  std::vector<std::string> overrides;
  bool full = false;
  bool json = false;
};

void run(const Arguments& arguments) {
  const Launch start = launch(arguments.job, arguments.overrides);
  const train::Verification verification = train::verify(start.job, *start.world, arguments.full);
  if (start.world->rank() == 0) {
    std::puts((arguments.json ? train::verification_json(verification)
                              : train::verification_text(verification))
                  .c_str());
    std::fflush(stdout);
  }
  if (verification.agrees()) return;
  throw base::Error(base::ExitCode::kInternal,
                    "verify: this layout's loss or gradients are not those of one rank; please "
                    "report it with the job file",
                    true);
}

}  // namespace

void add_verify_command(const Command& program) {
  const Command command = program.subcommand(
      "verify", "Prove that a job's layout gives what one rank gives: loss and every gradient");
  auto arguments = std::make_shared<Arguments>();
  command.option("job", arguments->job, "Job file (JSON)").required();
  command
      .option("--set", arguments->overrides,
              "Override a key: --set parallel.sequence=4 (repeatable)")
      .one_at_a_time();
  command.flag("--full", arguments->full,
               "Run model and rows as they are; every rank then holds all of it, plain");
  command.flag("--json", arguments->json,
               "Print one JSON object instead of text, with every gradient's error");
  command.footer(
      "Start it as the job will be started: mpirun -np 4 longspan verify job.json\n"
      "One step of the job's data is run by all ranks and by one that shards, chunks and "
      "recomputes\n"
      "nothing. Unless --full, with fewer and narrower layers and shorter rows, but with the "
      "job's\n"
      "heads, layout and policies. Exit code 1 when anything differs.");
  command.callback([arguments] { run(*arguments); });
}

}  // namespace longspan::cli
