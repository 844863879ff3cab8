#include "longspan/train/generate.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/commands.h"

namespace longspan::cli {

void add_generate_command(const Command& program) {
  const Command command = program.subcommand("generate", "Sample text from a checkpoint");
  struct Arguments {
    std::string checkpoint;
    train::GenerateOptions options;
  };
  auto arguments = std::make_shared<Arguments>();
  auto& options = arguments->options;
  command
      .option("checkpoint", arguments->checkpoint,
              "A checkpoint's directory, or a run's output_dir (its newest checkpoint)")
      .required();
  command.option("--prompt", options.prompt, "Text to continue");
  command.option("--tokenizer", options.tokenizer,
                 "\"bytes\", a .model file or a directory; default: the checkpoint's own");
  command.option("--max-tokens", options.max_tokens, "Most tokens to add")
      .positive()
      .show_default();
  command.option("--samples", options.samples, "Number of samples").positive().show_default();
  command.option("--temperature", options.temperature, "0 takes the likeliest token always")
      .within(0.0, 100.0)
      .show_default();
  command
      .option("--top-p", options.top_p,
              "Sample from the likeliest tokens that make up this probability")
      .within(0.0, 1.0)
      .show_default();
  command.option("--seed", options.seed, "The same seed gives the same samples").show_default();
  command.option("--device", options.device, "cpu or cuda").one_of({"cpu", "cuda"}).show_default();
  command.callback([arguments] {
    train::generate(arguments->checkpoint, arguments->options,
                    [&](std::int64_t sample, const std::string& text) {
                      if (arguments->options.samples > 1) {
                        fmt::print("--- sample {} ---\n", sample + 1);
                      }
                      fmt::print("{}\n", text);
                      std::fflush(stdout);
                    });
  });
}

}  // namespace longspan::cli
