// import and export: model directories read and written.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/size_text.h"
#include "longspan/train/model_io.h"

namespace longspan::cli {
namespace {

struct Arguments {
  std::string source;
  std::string shard_size = "5GB";
  train::ModelOutput output;
};

void add_output_options(const Command& command, Arguments& arguments) {
  command
      .option("--dtype", arguments.output.dtype,
              "Type of the weights written (default: as they are)")
      .one_of({"fp32", "bf16", "fp16"});
  command
      .option("--shard-size", arguments.shard_size,
              "Most bytes of tensors in a file, but for a larger tensor: 500MB, 5GB, 4GiB")
      .show_default();
}

void run(Arguments& arguments,
         train::ModelRead (*convert)(const std::string&, const train::ModelOutput&)) {
  const auto bytes = base::parse_size(arguments.shard_size);
  if (!bytes || *bytes == 0) {
    throw base::InputError(
        fmt::format("--shard-size is \"{}\"; legal: a size above 0 such as \"500MB\" or \"4GiB\"",
                    arguments.shard_size));
  }
  arguments.output.shard_bytes = *bytes;
  const train::ModelRead model = convert(arguments.source, arguments.output);
  const std::string& directory = arguments.output.directory;
  fmt::print("{}: {}, {} parameters, {}, {} in {} file{}{}\n",
             directory.empty() ? arguments.source : "wrote " + directory, model.model_type,
             model.parameters, model.dtype, base::format_bytes(model.bytes), model.files,
             model.files == 1 ? "" : "s", directory.empty() ? ": all in order" : "");
}

}  // namespace

void add_import_command(const Command& program) {
  const Command command = program.subcommand(
      "import", "Check a model directory of Hugging Face's layout, and write it anew");
  auto arguments = std::make_shared<Arguments>();
  command.option("directory", arguments->source, "A model's directory").required();
  command
      .option("-o,--output", arguments->output.directory,
              "A new directory for the model: its parameters alone, one type, full names; without "
              "it the model is only checked")
      .not_empty("needs the name of a directory");
  add_output_options(command, *arguments);
  command.footer(
      "Training begins with a model directory as it is (model.from): import says before it, whole "
      "and without\nranks, whether config.json is understood, every tensor there and of its shape, "
      "and every number finite.");
  command.callback([arguments] {
    const bool writes = !arguments->output.directory.empty();
    if (!writes && !arguments->output.dtype.empty()) {
      throw base::InputError("--dtype is of what is written: name a directory with --output");
    }
    run(*arguments, train::import_model);
  });
}

void add_export_command(const Command& program) {
  const Command command =
      program.subcommand("export", "Write a checkpoint as a model directory for transformers");
  auto arguments = std::make_shared<Arguments>();
  command
      .option("checkpoint", arguments->source,
              "A checkpoint's directory, or a run's output_dir (its newest checkpoint), or with "
              "--merge an adapter's that PEFT wrote")
      .required();
  command.flag("--merge", arguments->output.merge,
               "Of an adapter: add it to the weights of its base, and write these");
  add_base_option(command, arguments->output.base);
  command.option("-o,--output", arguments->output.directory, "A new directory for the model")
      .required()
      .not_empty("needs the name of a directory");
  add_output_options(command, *arguments);
  command.callback([arguments] { run(*arguments, train::export_model); });
}

}  // namespace longspan::cli
