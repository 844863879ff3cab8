#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "cli/commands.h"
#include "longspan/train/job.h"

namespace longspan::cli {

void add_schema_command(const Command& program) {
  const Command command =
      program.subcommand("schema", "Print the JSON Schema of job files, for editors and checks");
  auto markdown = std::make_shared<bool>(false);
  command.flag("--markdown", *markdown, "Print the table of docs/job-file.md instead");
  command.callback(
      [markdown] { fmt::print("{}", *markdown ? train::job_markdown() : train::job_schema()); });
}

}  // namespace longspan::cli
