#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "cli/command.h"
#include "cli/commands.h"
#include "cli/plan_batches.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/comm/communicator.h"
#include "longspan/plan/cost_file.h"
#include "longspan/train/clip_job.h"
#include "longspan/train/clip_plan.h"
#include "longspan/train/cost_model.h"
#include "longspan/train/device.h"
#include "longspan/train/plan.h"

namespace longspan::cli {
namespace {

struct Arguments {
  std::string job;
  std::vector<std::string> overrides;
  int world_size = 0;  // not given
  std::string device;
  double state_bytes = 0;
  bool max_sequence = false;
  bool json = false;
  std::string picture;
  std::string costs_out;
  train::CostOptions costs;
  PlanBatchesArguments steps;
};

/// A plan is of one process: ranks of a launcher would each plan the same.
bool is_planned_elsewhere() {
  if (comm::launched_rank() == 1) {
    throw base::InputError(
        "`longspan plan` takes no launcher: start it alone, with --world-size for the ranks");
  }
  return comm::launched_rank() > 1;
}

train::PlanSetting setting_of(const Arguments& arguments, train::CommonJob& job) {
  if (!arguments.device.empty()) job.run.device_profile = arguments.device;
  auto setting =
      train::PlanSetting::of(std::max(1, arguments.world_size), train::device_profile(job));
  setting.state_bytes_per_parameter = arguments.state_bytes;
  return setting;
}

void print_device(const train::Plan& plan) {
  fmt::print("\nDevice {}: {}\n", plan.device.name, plan.device.source);
}

void show(const Arguments& arguments, const train::Plan& plan) {
  if (!arguments.picture.empty()) {
    base::replace_file(arguments.picture, train::plan_picture(plan));
  }
  if (arguments.json) std::puts(train::plan_json(plan).c_str());
}

void plan_clips(const Arguments& arguments, train::ClipJob job) {
  if (arguments.max_sequence || !arguments.costs_out.empty()) {
    throw base::InputError(
        fmt::format("{} is for jobs of texts; {} is one of clips, whose extents its data say",
                    arguments.max_sequence ? "--max-sequence" : "--costs-out", arguments.job));
  }
  const train::PlanSetting setting = setting_of(arguments, job);
  const train::Plan plan = train::make_clip_plan(job, setting);
  show(arguments, plan);
  if (arguments.json) return;
  fmt::print("{}", train::plan_text(plan));
  if (!plan.fits()) fmt::print("\n{}", train::clip_remedies_text(job, setting));
  print_device(plan);
}

void plan_text_job(const Arguments& arguments, train::Job job) {
  const train::PlanSetting setting = setting_of(arguments, job);
  if (arguments.max_sequence) {
    job = train::with_longest_sequence(job, setting);
  }
  if (!arguments.costs_out.empty()) {
    const train::Costs costs = train::predict_costs(job, setting, arguments.costs);
    base::replace_file(arguments.costs_out, plan::to_json(costs.model));
    if (!arguments.json) fmt::print("{}\n", train::costs_text(costs));
  }
  const train::Plan plan = train::make_plan(job, setting);
  show(arguments, plan);
  if (arguments.json) return;
  if (arguments.max_sequence) {
    const auto cost = train::sequence_cost(job, setting);
    fmt::print(
        "Longest sequence that fits, one to a {}: {} tokens.\n{} of {} are taken: {} whatever the "
        "length, and {:.0f} bytes a token.\n\n",
        plan.sequence.ranks() == 1 ? "rank" : "group of ranks", plan.micro_batch_tokens,
        base::format_bytes(plan.needed()), base::format_bytes(plan.limit),
        base::format_bytes(static_cast<std::uint64_t>(cost.fixed_bytes)), cost.bytes_per_token);
  }
  fmt::print("{}", train::plan_text(plan));
  if (!plan.fits()) fmt::print("\n{}", train::remedies_text(job, setting));
  print_device(plan);
}

void run(const Arguments& arguments) {
  if (is_planned_elsewhere()) return;
  if (!arguments.steps.lengths.empty()) {
    plan_batches(arguments.steps, arguments.world_size, arguments.json, arguments.picture);
    return;
  }
  if (arguments.job.empty()) {
    throw base::InputError(
        "`longspan plan` needs a job file, or --lengths; see longspan plan --help");
  }
  train::AnyJob job = train::read_any_job(arguments.job, arguments.overrides);
  if (auto* text = std::get_if<train::Job>(&job)) plan_text_job(arguments, std::move(*text));
  if (auto* clips = std::get_if<train::ClipJob>(&job)) plan_clips(arguments, std::move(*clips));
}

}  // namespace

void add_plan_command(const Command& program) {
  const Command command =
      program.subcommand("plan", "Predict memory, time and traffic of a job, without running it");
  auto arguments = std::make_shared<Arguments>();
  const Option job = command.option("job", arguments->job, "Job file (JSON)");
  command
      .option("--set", arguments->overrides,
              "Override a key: --set training.micro_batch_tokens=65536 (repeatable)")
      .one_at_a_time()
      .needs(job);
  command
      .option("--world-size", arguments->world_size,
              "Ranks (default 1; with --lengths those of the cost file)")
      .within(1, 1 << 20);
  command
      .option("--device", arguments->device,
              "Device profile: a built-in name or a file (default: the job's)")
      .needs(job);
  command
      .flag("--max-sequence", arguments->max_sequence,
            "Find the longest sequence that fits, one to a rank or group, and plan that")
      .needs(job);
  command
      .option("--assume-state-bytes", arguments->state_bytes,
              "What if weights, gradients and optimizer state took so many bytes a parameter?")
      .positive()
      .needs(job);
  add_plan_batches_options(command, arguments->steps, job);
  command.flag("--json", arguments->json, "Print one JSON object instead of text");
  command.option("--picture", arguments->picture,
                 "Write memory over one step as an SVG picture to this file; with --lengths, who "
                 "computes what in the first step");
  const Option costs_out = command.option(
      "--costs-out", arguments->costs_out,
      "Predict what groups of 1, 2, 4, ... ranks cost, and write it to this file (JSON)");
  command
      .option("--costs-level", arguments->costs.levels,
              "A level of activation checkpointing that groups may choose: --costs-level block "
              "(repeatable; default: the job's own)")
      .one_at_a_time()
      .needs(costs_out);
  command.footer(
      "Memory is counted by the trainer's own step on a backend that computes nothing.\n"
      "Times are estimates from the profile's roofline. With --lengths they are the cost file's.");
  command.callback([arguments] { run(*arguments); });
}

}  // namespace longspan::cli
