#include <array>
#include <cstdio>
#include <exception>

#include "cli/command.h"
#include "cli/commands.h"
#include "cli/tokenize.h"
#include "longspan/base/error.h"
#include "longspan/comm/communicator.h"

namespace {

using longspan::base::ExitCode;

/// Prints the cause and ends every rank of the job with `code`. An error that all ranks have seen
/// is told by rank 0 alone, and each of them leaves by itself.
int fail(ExitCode code, const char* message, bool agreed) noexcept {
  if (agreed ? longspan::comm::launched_rank() == 0 : longspan::comm::may_report()) {
    std::array<char, 32> who{};  // a peer's failure names its ranks itself
    const int rank = longspan::comm::launched_rank();
    if (rank > 0 && code != ExitCode::kPeerFailed) {
      std::snprintf(who.data(), who.size(), "rank %d: ", rank);
    }
    std::fprintf(stderr, "longspan: error: %s%s\n", who.data(), message);
  }
  std::fflush(nullptr);
  if (!agreed) longspan::comm::abort_world(static_cast<int>(code));
  return static_cast<int>(code);
}

int run(int argc, char** argv) {
  int exit_code = 0;
  const ExitCode understood =
      longspan::cli::run_command_line(argc, argv, [&](const longspan::cli::Command& program) {
        longspan::cli::add_train_command(program, exit_code);
        longspan::cli::add_plan_command(program);
        longspan::cli::add_verify_command(program);
        longspan::cli::add_tokenize_command(program);
        longspan::cli::add_generate_command(program);
        longspan::cli::add_evaluate_command(program);
        longspan::cli::add_import_command(program);
        longspan::cli::add_export_command(program);
        longspan::cli::add_inspect_command(program);
        longspan::cli::add_schema_command(program);
        longspan::cli::add_bench_command(program);
      });
  return understood == ExitCode::kDone ? exit_code : static_cast<int>(understood);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const longspan::base::Error& error) {
    return fail(error.code(), error.what(), error.agreed());
  } catch (const std::exception& error) {
    return fail(ExitCode::kInternal, error.what(), false);
  } catch (...) {
    return fail(ExitCode::kInternal, "an unknown exception", false);
  }
}
