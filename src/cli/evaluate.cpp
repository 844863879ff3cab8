#include "longspan/train/evaluate.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <limits>
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "longspan/base/file.h"
#include "longspan/comm/communicator.h"

namespace longspan::cli {
namespace {

struct Arguments {
  train::EvaluateOptions options;
  std::string json;
  std::string picture;
  double timeout = 600;
};

/// On a terminal one line that is written over; elsewhere nothing.
void show_progress(std::size_t done, std::size_t rows) {
  if (::isatty(STDERR_FILENO) != 1) return;
  fmt::print(stderr, "\r{} of {} rows{}", done, rows, done == rows ? "\r\x1b[K" : "");
  std::fflush(stderr);
}

void run(const Arguments& arguments) {
  comm::set_timeout(arguments.timeout);
  const auto world = comm::make_world_communicator();
  const train::Evaluation evaluation = train::evaluate(
      arguments.options, *world,
      [](const std::string& remark) { fmt::print(stderr, "note: {}\n", remark); }, show_progress);
  comm::run_agreed(*world, [&] {
    if (world->rank() > 0) return;
    const std::string json = train::evaluation_json(evaluation) + "\n";
    const bool prints_json = arguments.json == "-";
    fmt::print("{}", prints_json ? json : train::evaluation_text(evaluation));
    std::fflush(stdout);
    if (!prints_json && !arguments.json.empty()) base::replace_file(arguments.json, json);
    if (!arguments.picture.empty()) {
      base::replace_file(arguments.picture, train::evaluation_picture(evaluation));
    }
  });
}

void add_data_options(const Command& command, train::EvaluateOptions& options) {
  command
      .option("--context-length", options.context_length,
              "Tokens of a window (default: the model's max_position_embeddings, or the longest "
              "document if that is shorter)")
      .within(1, std::numeric_limits<std::int32_t>::max());
  command
      .option("--stride", options.stride,
              "Tokens from one window of a document to the next (default: the context length); a "
              "smaller one gives tokens more context and takes longer")
      .within(1, std::numeric_limits<std::int32_t>::max());
  command.option("--max-tokens", options.max_tokens, "The first tokens of the files alone")
      .positive();
  command.option(
      "--tokenizer", options.tokenizer,
      "\"bytes\", a tokenizer's file or directory, to compare with the files' (default: the "
      "model's own)");
  command
      .option("--raw-type", options.raw_type,
              "Of a token in files without a header: see data.raw_type")
      .one_of({"uint16", "uint32"});
  command
      .option("--document-end", options.document_end,
              "The id that ends documents in files of tokens alone: see data.document_end")
      .within(0, std::numeric_limits<std::int32_t>::max());
}

}  // namespace

void add_evaluate_command(const Command& program) {
  const Command command = program.subcommand(
      "evaluate", "Loss and perplexity of a model on token files, by position in the context");
  auto arguments = std::make_shared<Arguments>();
  auto& options = arguments->options;
  add_model_option(command, options.model);
  add_base_option(command, options.base);
  command.option("files", options.files, "Token files, which count as one").required();
  add_data_options(command, options);
  command
      .option("--precision", options.precision,
              "What is computed in (default: the type of the model's files)")
      .one_of({"fp32", "bf16", "fp64"});
  command.option("--device", options.device, "cpu or cuda").one_of({"cpu", "cuda"}).show_default();
  command
      .option(
          "--json", arguments->json,
          "Write all figures as one JSON object into this file; \"-\" prints it instead of text")
      .not_empty("needs the name of a file, or -");
  command.option("--picture", arguments->picture, "Draw the loss by position into this .svg file")
      .not_empty("needs the name of a file");
  command.option("--timeout", arguments->timeout, "Seconds that ranks wait for each other at most")
      .within(1.0, 1e9)
      .show_default();
  command.footer(
      "A document longer than the context is read in windows that follow each other. The position "
      "of a\npredicted token is how many tokens of its window come before the one that it follows. "
      "Under mpirun\nthe ranks share the rows; the figures are the same.");
  command.callback([arguments] { run(*arguments); });
}

}  // namespace longspan::cli
