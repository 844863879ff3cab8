#include "longspan/train/generate.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>

#include "cli/chat.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/generate_clips.h"
#include "cli/model_options.h"
#include "longspan/base/error.h"
#include "longspan/comm/communicator.h"
#include "longspan/data/chat.h"

namespace longspan::cli {
namespace {

struct Arguments {
  train::GenerateOptions options;
  train::GenerateClipsOptions clips;
  std::string prompt;
  std::string prompts;
  std::string output;
  bool chat = false;
  std::string system;
  std::string chat_template;
  double timeout = 600;
};

void say(const std::string& remark) { fmt::print(stderr, "note: {}\n", remark); }

/// Ranks share prompts, and nothing else.
void check_alone(const comm::Communicator& world) {
  if (world.size() == 1) return;
  throw base::InputError(fmt::format(
      "generate was started as {} ranks, which share the prompts of a file (--prompts) and nothing "
      "else; start it without mpirun",
      world.size()));
}

void continue_one(const Arguments& arguments) {
  std::int64_t shown = -1;
  train::generate(arguments.options, arguments.prompt,
                  {[&](std::int64_t sample, const std::string& piece) {
                     if (sample != shown && shown >= 0) fmt::print("\n");
                     if (sample != shown && arguments.options.samples > 1) {
                       fmt::print("--- sample {} ---\n", sample + 1);
                     }
                     shown = sample;
                     fmt::print("{}", piece);
                     std::fflush(stdout);
                   },
                   say});
  fmt::print("\n");
}

/// An option that would change nothing is refused.
void check_options_of_clips(const Arguments& arguments) {
  const train::GenerateOptions& given = arguments.options;
  train::GenerateOptions plain;
  plain.model = given.model;
  plain.device = given.device;
  plain.samples = given.samples;
  plain.sampling.seed = given.sampling.seed;
  if (given == plain && arguments.prompt.empty() && arguments.prompts.empty() && !arguments.chat &&
      arguments.chat_template.empty()) {
    return;
  }
  throw base::InputError(
      fmt::format("{} is a model of clips, for which there are -o, --samples, --seed, --device and "
                  "the options whose help speaks of clips",
                  given.model));
}

void make_clips(const Arguments& arguments, const comm::Communicator& world) {
  check_options_of_clips(arguments);
  if (arguments.output.empty()) {
    throw base::InputError(
        "a model of clips needs --output: FILE.gif (a picture) or FILE.npy (the numbers)");
  }
  if (world.size() > 1) {
    throw base::InputError(
        fmt::format("clips are made by one process; generate was started as {} "
                    "ranks: start it without mpirun",
                    world.size()));
  }
  const train::GenerateOptions& options = arguments.options;
  train::GenerateClipsOptions clips = arguments.clips;
  clips.model = options.model;
  clips.output = arguments.output;
  clips.device = options.device;
  clips.seed = options.sampling.seed;
  clips.samples = options.samples;
  fmt::print("{}\n", train::generate_clips(clips));
}

void run(const Arguments& arguments) {
  comm::set_timeout(arguments.timeout);
  const auto world = comm::make_world_communicator();
  bool has_clips = false;
  comm::run_agreed(*world, [&] {
    has_clips = train::is_clip_model(arguments.options.model);
    if (has_clips) make_clips(arguments, *world);
  });
  if (has_clips) return;
  if (arguments.clips != train::GenerateClipsOptions()) {
    throw base::InputError(
        fmt::format("--shape, --sampling-steps, --class, --start, --given-frames and --scale are "
                    "of models of clips, and {} holds none",
                    arguments.options.model));
  }
  if (arguments.prompts.empty() != arguments.output.empty()) {
    throw base::InputError(
        "--prompts FILE and --output FILE go together: what is continued, and where it is written");
  }
  if (arguments.prompts.empty() && !arguments.chat && !arguments.chat_template.empty()) {
    throw base::InputError("--chat-template is of --chat, and of messages in a file (--prompts)");
  }
  const train::GenerateListener listener{[](std::int64_t, const std::string&) {}, say};
  if (!arguments.prompts.empty()) {
    const std::int64_t prompts =
        train::generate_batch(arguments.options, arguments.prompts, arguments.output,
                              arguments.chat_template, *world, listener);
    if (world->rank() == 0) {
      fmt::print("wrote {}: {} prompt{}\n", arguments.output, prompts, prompts == 1 ? "" : "s");
    }
    return;
  }
  comm::run_agreed(*world, [&] { check_alone(*world); });
  if (arguments.chat) {
    return run_chat({arguments.options, arguments.chat_template, arguments.system});
  }
  continue_one(arguments);
}

void add_sampling_options(const Command& command, train::GenerateOptions& options,
                          const Option& chat) {
  command
      .option("--max-tokens", options.max_tokens,
              fmt::format("Most tokens to add (default: {}, or as many as the model's positions "
                          "leave; of an answer in a chat these)",
                          train::kDefaultTokens))
      .positive();
  command.option("--samples", options.samples, "Number of samples of a prompt")
      .positive()
      .show_default()
      .excludes(chat);
  command
      .option("--temperature", options.sampling.temperature, "0 takes the likeliest token always")
      .within(0.0, 100.0)
      .show_default();
  command
      .option("--top-p", options.sampling.top_p,
              "Sample from the likeliest tokens that make up this probability")
      .within(0.0, 1.0)
      .show_default();
  command.option("--top-k", options.sampling.top_k, "Sample from so many likeliest tokens alone")
      .positive();
  command
      .option("--repetition-penalty", options.sampling.repetition_penalty,
              "Makes tokens that came before less likely: 1 does not, 1.1 a little")
      .within(0.01, 100.0)
      .show_default();
  command.option("--stop", options.stops, "End before this text (repeatable)")
      .one_at_a_time()
      .not_empty("needs a text");
  command.option("--seed", options.sampling.seed, "The same seed gives the same samples")
      .show_default();
}

}  // namespace

void add_generate_command(const Command& program) {
  const Command command =
      program.subcommand("generate", "Continue texts, or make clips, with a model");
  auto arguments = std::make_shared<Arguments>();
  auto& options = arguments->options;
  add_model_option(command, options.model);
  add_base_option(command, options.base);
  const Option prompt = command.option("--prompt", arguments->prompt, "Text to continue");
  const Option prompts =
      command
          .option(
              "--prompts", arguments->prompts,
              "A file of prompts: .jsonl with a \"prompt\" or \"messages\" a line, else a text a "
              "line; ranks share them")
          .not_empty("needs the name of a file");
  prompts.excludes(prompt);
  command
      .option(
          "-o,--output", arguments->output,
          "With --prompts: a new file of JSON lines, each prompt with its \"completions\"; of a "
          "model of clips: FILE.gif or FILE.npy")
      .not_empty("needs the name of a file");
  const Option chat = command.flag(
      "--chat", arguments->chat,
      "Talk with a chat model: a turn a line of the terminal or of a pipe; /reset, /exit, Ctrl-D");
  chat.excludes(prompt).excludes(prompts);
  command.option("--system", arguments->system, "With --chat: what the system says first")
      .needs(chat);
  command
      .option("--chat-template", arguments->chat_template,
              "How a chat becomes tokens (default: what the tokenizer's control tokens tell)")
      .one_of(data::ChatTemplate::names());
  add_sampling_options(command, options, chat);
  add_clip_options(command, arguments->clips);
  command.option("--tokenizer", options.tokenizer,
                 "\"bytes\", a tokenizer's file or a directory (default: the model's own)");
  command
      .option("--dtype", options.dtype,
              "What is computed in (default: the type of the model's files, float32 for float16)")
      .one_of({"fp32", "bf16", "fp64"});
  command.option("--device", options.device, "cpu or cuda").one_of({"cpu", "cuda"}).show_default();
  command.option("--timeout", arguments->timeout, "Seconds that ranks wait for each other at most")
      .within(1.0, 1e9)
      .show_default();
  command.callback([arguments] { run(*arguments); });
}

}  // namespace longspan::cli
