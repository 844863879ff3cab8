#include "longspan/train/cost_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "train/dry_step.h"
#include "train/group_pass.h"
#include "train/step_plan.h"

namespace longspan::train {
namespace {

/// Of one pass among others: neither the first of a step nor the last, which are given.
class PassClock {
 public:
  PassClock(DryRank& dry, RankPass others)
      : dry_(&dry), others_(std::move(others)), without_(seconds_of({others_, others_})) {}

  double seconds(const RankPass& pass) const {
    return seconds_of({others_, pass, others_}) - without_;
  }

 private:
  double seconds_of(const std::vector<RankPass>& passes) const {
    dry_->backend.start_step();
    dry_->step.forward_backward(passes);
    return dry_->backend.counts().seconds();
  }

  DryRank* dry_;
  RankPass others_;
  double without_;
};

/// A kind of group on one of its ranks.
class KindClock {
 public:
  KindClock(const KindJob& kind, const PlanSetting& setting, int rank)
      : degree_(kind.kind.degree),
        dry_(kind.job, setting, rank),
        clock_(dry_, {full_row(degree_, 1), dry_.meshes.of_size(degree_)}) {}

  double seconds(const PassSize& size) const {
    return clock_.seconds({full_row(size.tokens, size.longest), dry_.meshes.of_size(degree_)});
  }
  double empty_seconds() const { return clock_.seconds({empty_micro_batch(), nullptr}); }

 private:
  int degree_;
  DryRank dry_;
  PassClock clock_;
};

/// What the rank takes of each size that is slowest with the first, the largest; `empty_seconds`
/// becomes what an empty pass takes, if that is less.
std::vector<double> seconds_of_kind(const KindJob& kind, const PlanSetting& setting,
                                    double& empty_seconds) {
  std::unique_ptr<KindClock> slowest;
  std::vector<double> seconds(1);
  for (const int rank : unlike_ranks(kind.job, setting)) {
    auto clock = std::make_unique<KindClock>(kind, setting, rank);
    const double largest = clock->seconds(kind.sizes.front());
    if (slowest && largest <= seconds.front()) continue;
    slowest = std::move(clock);
    seconds.front() = largest;
  }
  for (std::size_t i = 1; i < kind.sizes.size(); ++i) {
    seconds.push_back(slowest->seconds(kind.sizes[i]));
  }
  empty_seconds = std::min(empty_seconds, slowest->empty_seconds());
  return seconds;
}

}  // namespace

double Costs::worst_error() const {
  double worst = 0;
  for (const CostCheck& check : checks) worst = std::max(worst, std::abs(check.error()));
  return worst;
}

Costs predict_costs(const Job& job, const PlanSetting& setting, const CostOptions& options) {
  const std::vector<KindJob> kinds =
      kinds_of(job, setting, options, rooms_of(job, setting, options));
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
