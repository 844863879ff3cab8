#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "cli/commands.h"
#include "longspan/train/clip_job.h"

namespace longspan::cli {

void add_schema_command(const Command& program) {
  const Command command =
      program.subcommand("schema", "Print the JSON Schema of job files, for editors and checks");
  auto markdown = std::make_shared<bool>(false);
  command.flag("--markdown", *markdown, "Print the table of docs/job-file.md instead");
  auto clips = std::make_shared<bool>(false);
  command.flag("--clips", *clips, "The same of jobs of clips");
  command.callback([markdown, clips] {
    const auto text = *clips      ? *markdown ? train::clip_job_markdown : train::clip_job_schema
                      : *markdown ? train::job_markdown
                                  : train::job_schema;
    fmt::print("{}", text());
  });
}

}  // namespace longspan::cli
