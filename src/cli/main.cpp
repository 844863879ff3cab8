#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "cli/commands.h"
#include "cli/tokenize.h"
#include "cli/version.h"
#include "longspan/base/error.h"
#include "longspan/comm/communicator.h"

namespace {

using longspan::base::ExitCode;

/// Prints the cause and ends every rank of the job with `code`. An error that all ranks have seen
/// is told by rank 0 alone, and each of them leaves by itself.
[[noreturn]] void fail(int code, const std::string& message, bool agreed) {
  if (!agreed || longspan::comm::launched_rank() == 0)
    fmt::print(stderr, "longspan: error: {}\n", message);
  std::fflush(nullptr);
  if (!agreed) longspan::comm::abort_world(code);
  std::exit(code);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Longspan: trains transformers on very long sequences", "longspan");
  int exit_code = 0;
  app.require_subcommand(1);
  app.set_version_flag("--version", [] { return longspan::cli::version_text(); });
  app.failure_message(CLI::FailureMessage::help);
  longspan::cli::add_train_command(app, exit_code);
  longspan::cli::add_tokenize_command(app);
  longspan::cli::add_generate_command(app);
  longspan::cli::add_schema_command(app);
  longspan::cli::add_bench_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool asked = error.get_exit_code() == 0;
    return asked ? app.exit(error)
                 : (app.exit(error, std::cerr, std::cerr), static_cast<int>(ExitCode::kBadInput));
  } catch (const longspan::base::Error& error) {
    fail(static_cast<int>(error.code()), error.what(), error.agreed());
  } catch (const std::exception& error) {
    fail(static_cast<int>(ExitCode::kInternal), error.what(), false);
  }
  return exit_code;
}
