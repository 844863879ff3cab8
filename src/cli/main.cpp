#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <exception>
#include <iostream>

#include "cli/commands.h"
#include "cli/tokenize.h"
#include "cli/version.h"
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
  CLI::App app("Longspan: trains transformers on very long sequences", "longspan");
  int exit_code = 0;
  app.require_subcommand(1);
  app.set_version_flag("--version", [] { return longspan::cli::version_text(); });
  app.failure_message(CLI::FailureMessage::help);
  longspan::cli::add_train_command(app, exit_code);
  longspan::cli::add_plan_command(app);
  longspan::cli::add_verify_command(app);
  longspan::cli::add_tokenize_command(app);
  longspan::cli::add_generate_command(app);
  longspan::cli::add_schema_command(app);
  longspan::cli::add_bench_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    app.exit(error, std::cerr, std::cerr);
    return static_cast<int>(ExitCode::kBadInput);
  }
  return exit_code;
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
