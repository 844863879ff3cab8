#include "cli/plan_batches.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "base/parallel.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/plan/cost_file.h"
#include "longspan/train/batch_plans.h"

namespace longspan::cli {
namespace {

/// The costs of the file's kinds on as many ranks.
plan::CostModel costs_for(const PlanBatchesArguments& arguments, int world_size) {
  if (arguments.costs.empty()) {
    throw base::InputError(
        "--lengths needs --costs FILE: what groups of ranks cost (docs/flexible.md)");
  }
  plan::CostModel costs = plan::read_cost_file(arguments.costs);
  if (world_size == 0 || world_size == costs.ranks) return costs;
  costs.source += fmt::format("{}here for {} ranks instead of {}", costs.source.empty() ? "" : "; ",
                              world_size, costs.ranks);
  costs.ranks = world_size;
  std::erase_if(costs.kinds, [&](const plan::GroupKind& kind) { return kind.degree > world_size; });
  if (costs.kinds.empty()) {
    throw base::InputError(fmt::format("{} has no kind of group for {} ranks; take more ranks",
                                       arguments.costs, world_size));
  }
  return costs;
}

}  // namespace

void add_plan_batches_options(const Command& command, PlanBatchesArguments& arguments,
                              const Option& job) {
  const Option lengths = command.option(
      "--lengths", arguments.lengths,
      "Instead of a job: plan steps for sequences of these lengths. A text with one length a "
      "line, a token file, or a .csv of quantiles (quantile,tokens)");
  lengths.excludes(job);
  command.option("--costs", arguments.costs, "Cost file: what groups of ranks cost (JSON)")
      .needs(lengths);
  const Option sequences =
      command.option("--batch-sequences", arguments.batch_sequences, "Sequences of each batch");
  sequences.needs(lengths).positive();
  const Option tokens =
      command.option("--batch-tokens", arguments.batch_tokens, "Tokens of each batch, at most");
  tokens.needs(lengths).positive().excludes(sequences);
  command
      .option("--batches", arguments.batches,
              "Batches that are planned; 0: all of a list of lengths (default 10)")
      .needs(lengths);
  command.option("--seed", arguments.seed, "Of the order of sequences (default 0)").needs(lengths);
}

void plan_batches(const PlanBatchesArguments& arguments, int world_size, bool json,
                  const std::string& picture) {
  if (arguments.batches < 0) throw base::InputError("--batches is 0 or more");
  const plan::CostModel costs = costs_for(arguments, world_size);
  const train::BatchPlans plans =
      train::plan_batches({arguments.lengths, arguments.batch_sequences, arguments.batch_tokens,
                           arguments.batches, arguments.seed, base::worker_threads()},
                          costs);
  if (!picture.empty()) {
    base::replace_file(picture, train::step_picture(plans.first, plans.first_lengths, costs));
  }
  if (json) {
    std::puts(train::batch_plans_json(plans).c_str());
  } else {
    fmt::print("{}", train::batch_plans_text(plans));
  }
}

}  // namespace longspan::cli
