#include "longspan/train/inspect.h"

#include <fmt/format.h>

#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/commands.h"

namespace longspan::cli {

void add_inspect_command(const Command& program) {
  const Command command = program.subcommand(
      "inspect", "Show what a model, checkpoint, run, safetensors or token file holds");
  struct Arguments {
    std::string path;
    train::InspectOptions options;
  };
  auto arguments = std::make_shared<Arguments>();
  command
      .option("path", arguments->path,
              "A model's, checkpoint's or run's directory, a .safetensors file, or a token file")
      .required();
  command.flag("--tensors", arguments->options.tensors, "List every tensor");
  command.flag("--json", arguments->options.json, "Print one JSON object instead of text");
  command.callback(
      [arguments] { fmt::print("{}", train::inspect(arguments->path, arguments->options)); });
}

}  // namespace longspan::cli
