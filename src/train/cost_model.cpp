#include "longspan/train/cost_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "train/dry_step.h"
#include "train/group_pass.h"
#include "train/step_plan.h"

namespace longspan::train {
namespace {

/// The first rank of the group that spans most machines: where these are no multiple of groups,
/// not all are alike.
int first_rank_of_widest(const PlanSetting& setting, int degree) {
  const std::int64_t machine = setting.device.devices_per_node;
  int widest = 0;
  std::int64_t most = 0;
  for (int first = 0; first + degree <= setting.ranks; first += degree) {
    const std::int64_t machines = (first + degree - 1) / machine - first / machine;
    if (machines <= most) continue;
    most = machines;
    widest = first;
  }
  return widest;
}

/// Ranks that may be a group's slowest: one of each place of its ring, at most a few, as what they
/// see of each other's keys differs; the first of Ulysses ranks has most heads.
std::set<int> slow_ranks(const KindJob& kind, const PlanSetting& setting) {
  constexpr int kMost = 4;
  const shard::SequenceDegrees degrees = parallel_layout(kind.job, setting.ranks).sequence;
  const int first = first_rank_of_widest(setting, degrees.ranks());
  std::set<int> ranks;
  for (int i = 0; i < std::min(kMost, degrees.ring); ++i) {
    const int place = degrees.ring <= kMost ? i : i * (degrees.ring - 1) / (kMost - 1);
    ranks.insert(first + place * degrees.ulysses);
  }
  return ranks;
}

/// Of one pass among others: neither the first of a step nor the last.
double seconds_of_pass(DryRank& dry, const RankPass& pass) {
  const auto seconds_of = [&](const std::vector<RankPass>& passes) {
    dry.backend.start_step();
    dry.step.forward_backward(passes);
    return dry.backend.counts().seconds();
  };
  return seconds_of({pass, pass, pass}) - seconds_of({pass, pass});
}

/// What the slowest rank takes of each size; `empty_seconds` becomes what an empty pass takes, if
/// that is less.
std::vector<double> seconds_of_kind(const KindJob& kind, const PlanSetting& setting,
                                    double& empty_seconds) {
  std::vector<double> slowest(kind.sizes.size());
  for (const int rank : slow_ranks(kind, setting)) {
    DryRank dry(kind.job, setting, rank);
    for (std::size_t i = 0; i < kind.sizes.size(); ++i) {
      const RankPass pass{full_row(kind.sizes[i].tokens, kind.sizes[i].longest),
                          dry.meshes.of_size(kind.kind.degree)};
      slowest[i] = std::max(slowest[i], seconds_of_pass(dry, pass));
    }
    empty_seconds = std::min(empty_seconds, seconds_of_pass(dry, {empty_micro_batch(), nullptr}));
  }
  return slowest;
}

}  // namespace

double Costs::worst_error() const {
  double worst = 0;
  for (const CostCheck& check : checks) worst = std::max(worst, std::abs(check.error()));
  return worst;
}

Costs predict_costs(const Job& job, const PlanSetting& setting, const CostOptions& options) {
  const std::vector<KindJob> kinds = kinds_of(job, setting, options);
  std::vector<std::vector<double>> seconds;
  double empty_seconds = HUGE_VAL;
  for (const KindJob& kind : kinds) {
    seconds.push_back(seconds_of_kind(kind, setting, empty_seconds));
  }
  Costs costs = fit_kinds(setting.ranks, kinds, empty_seconds, seconds);
  costs.model.source = "predicted: " + costs_subject(job, setting);
  return costs;
}

plan::CostModel make_cost_model(const Job& job, const PlanSetting& setting) {
  return predict_costs(job, setting).model;
}

std::string costs_text(const Costs& costs) {
  const plan::CostModel& model = costs.model;
  std::string text = fmt::format(
      "What groups of the {} rank(s) cost ({}); {:.6g} s for every micro-batch, and\n"
      "{:>6}  {:<22} {:>12} {:>12} {:>14} {:>11}\n",
      model.ranks, model.source, model.micro_batch_seconds, "ranks", "checkpointing", "s a group",
      "s a token", "s a token^2", "most tokens");
  for (const plan::GroupKind& kind : model.kinds) {
    text += fmt::format("{:>6}  {:<22} {:>12.4e} {:>12.4e} {:>14.4e} {:>11}\n", kind.degree,
                        kind.level.empty() ? "the job's" : kind.level, kind.fixed_seconds,
                        kind.seconds_per_token, kind.seconds_per_token_squared, kind.max_tokens);
  }
  text += fmt::format("\n{:>6}  {:>10} {:>12} {:>12} {:>12} {:>8}\n", "ranks", "tokens",
                      "in lengths of", "s", "fitted s", "error");
  for (const CostCheck& check : costs.checks) {
    text += fmt::format("{:>6}  {:>10} {:>13} {:>12.6g} {:>12.6g} {:>7.1f}%\n",
                        model.kinds[check.kind].degree, check.tokens, check.longest, check.seconds,
                        check.fitted, 100 * check.error());
  }
  return text;
}

}  // namespace longspan::train
