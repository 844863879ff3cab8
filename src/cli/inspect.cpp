#include "longspan/train/inspect.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/commands.h"

namespace longspan::cli {
namespace {

/// Of the terminal that text goes to; what is no terminal has as many as one likes.
int columns_of_output() {
  constexpr int kUsual = 100;
  winsize size{};
  const bool is_known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return is_known ? std::min<int>(size.ws_col, 2 * kUsual) : kUsual;
}

}  // namespace

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
  command.option(
      "--picture", arguments->options.picture,
      "Of a token file: draw how long its documents are, as an SVG picture to this file");
  command.option("--lengths-out", arguments->options.lengths_out,
                 "Of a token file: write the tokens of each document to this file, one a line");
  command
      .option("--raw-type", arguments->options.flat.type,
              "What a token is in a .bin file without a header: uint16 or uint32")
      .one_of({"uint16", "uint32"});
  command
      .option("--document-end", arguments->options.flat.document_end,
              "Token that ends each document in llm.c's files and those without a header")
      .within(0, std::numeric_limits<std::int32_t>::max());
  command.callback([arguments] {
    arguments->options.columns = columns_of_output();
    fmt::print("{}", train::inspect(arguments->path, arguments->options));
  });
}

}  // namespace longspan::cli
