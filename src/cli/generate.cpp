#include "longspan/train/generate.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "cli/commands.h"

namespace longspan::cli {

void add_generate_command(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "Sample text from a checkpoint");
  struct Arguments {
    std::string checkpoint;
    train::GenerateOptions options;
  };
  auto arguments = std::make_shared<Arguments>();
  auto& options = arguments->options;
  command
      ->add_option("checkpoint", arguments->checkpoint,
                   "A checkpoint's directory, or a run's output_dir (its newest checkpoint)")
      ->required();
  command->add_option("--prompt", options.prompt, "Text to continue");
  command->add_option("--tokenizer", options.tokenizer,
                      "\"bytes\", a .model file or a directory; default: the checkpoint's own");
  command->add_option("--max-tokens", options.max_tokens, "Most tokens to add")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--samples", options.samples, "Number of samples")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--temperature", options.temperature, "0 takes the likeliest token always")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command
      ->add_option("--top-p", options.top_p,
                   "Sample from the likeliest tokens that make up this probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", options.seed, "The same seed gives the same samples")
      ->capture_default_str();
  command->add_option("--device", options.device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command->callback([arguments] {
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
