#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "longspan/base/json.h"
#include "longspan/train/batch_plans.h"

namespace longspan::train {
namespace {

/// "8 ranks", or with a level "8 ranks, block".
std::string kind_text(const plan::GroupKind& kind) {
  return fmt::format("{} rank{}{}{}", kind.degree, kind.degree == 1 ? "" : "s",
                     kind.level.empty() ? "" : ", ", kind.level);
}

/// What the plans of all batches come to.
struct Sums {
  std::int64_t sequences = 0;
  std::int64_t tokens = 0;
  std::int64_t micro_batches = 0;
  double any_bound = 0;
  double planning = 0;
  double longest_planning = 0;
};

Sums sums_of(const BatchPlans& plans) {
  Sums sums;
  for (const BatchPlan& batch : plans.batches) {
    sums.sequences += batch.sequences;
    sums.tokens += batch.tokens;
    sums.micro_batches += batch.micro_batches;
    sums.any_bound += batch.any_bound_seconds;
    sums.planning += batch.planning_seconds;
    sums.longest_planning = std::max(sums.longest_planning, batch.planning_seconds);
  }
  return sums;
}

std::string layouts_text(const BatchPlans& plans) {
  const std::string one_kind =
      plans.best_kind < 0
          ? "one kind of group for all (none fits all sequences)"
          : fmt::format("one kind of group for all ({})",
                        kind_text(plans.costs.kinds[static_cast<std::size_t>(plans.best_kind)]));
  const std::array<std::pair<Layout, std::string>, kLayouts> layouts = {
      {{Layout::kOneKind, one_kind},
       {Layout::kKindPerBatch, "one for each batch"},
       {Layout::kKindPerMicroBatch, "one for each micro-batch"},
       {Layout::kFlexible, "flexible groups"}}};
  const double flexible = plans.seconds(Layout::kFlexible);
  std::string text = fmt::format("{:<52} {:>10} {:>9}\n", "Layout of steps", "seconds", "relative");
  for (const auto& [layout, name] : layouts) {
    const double seconds = plans.seconds(layout);
    text += std::isfinite(seconds)
                ? fmt::format("{:<52} {:>10.3f} {:>9.3f}\n", name, seconds, seconds / flexible)
                : fmt::format("{:<52} {:>10} {:>9}\n", name, "-", "-");
  }
  return text;
}

std::string uses_text(const BatchPlans& plans, const Sums& sums) {
  std::string text = fmt::format("{:<16} {:>10} {:>12} {:>16} {:>9}\n", "Flexible groups", "groups",
                                 "sequences", "tokens", "of tokens");
  for (std::size_t kind = 0; kind < plans.uses.size(); ++kind) {
    const KindUse& use = plans.uses[kind];
    if (use.groups == 0) continue;
    text += fmt::format("{:<16} {:>10} {:>12} {:>16} {:>8.1f}%\n",
                        kind_text(plans.costs.kinds[kind]), use.groups, use.sequences, use.tokens,
                        100.0 * static_cast<double>(use.tokens) / static_cast<double>(sums.tokens));
  }
  return text;
}

}  // namespace

std::string batch_plans_text(const BatchPlans& plans) {
  const Sums sums = sums_of(plans);
  const double flexible = plans.seconds(Layout::kFlexible);
  std::string text =
      fmt::format("{} batch{} of {} sequences with {} tokens (the longest {}) on {} ranks.\n",
                  plans.batches.size(), plans.batches.size() == 1 ? "" : "es", sums.sequences,
                  sums.tokens, plans.longest, plans.costs.ranks);
  if (plans.left_out > 0) {
    text +=
        fmt::format("Left out: {} longer sequences, which fit into no group.\n", plans.left_out);
  }
  text += "\n" + layouts_text(plans) + "\n" + uses_text(plans, sums) + "\n";
  text += fmt::format(
      "With these {} micro-batches no plan is faster by more than {:.2f}%, whatever the "
      "micro-batches none by more than {:.1f}%.\nA step was planned in {:.3f} s, at most {:.3f} "
      "s.\n",
      sums.micro_batches, 100 * (1 - plans.bound_seconds() / flexible),
      100 * (1 - sums.any_bound / flexible),
      sums.planning / static_cast<double>(plans.batches.size()), sums.longest_planning);
  if (!plans.costs.source.empty()) text += "Costs: " + plans.costs.source + "\n";
  return text;
}

std::string batch_plans_json(const BatchPlans& plans) {
  const Sums sums = sums_of(plans);
  const double flexible = plans.seconds(Layout::kFlexible);
  const auto number = [](double seconds) {
    return std::isfinite(seconds) ? nlohmann::ordered_json(seconds) : nlohmann::ordered_json();
  };
  nlohmann::ordered_json uses = nlohmann::ordered_json::array();
  for (std::size_t kind = 0; kind < plans.uses.size(); ++kind) {
    const KindUse& use = plans.uses[kind];
    uses.push_back({{"degree", plans.costs.kinds[kind].degree},
                    {"level", plans.costs.kinds[kind].level},
                    {"groups", use.groups},
                    {"sequences", use.sequences},
                    {"tokens", use.tokens}});
  }
  nlohmann::ordered_json batches = nlohmann::ordered_json::array();
  for (const BatchPlan& batch : plans.batches) {
    const double seconds = batch.seconds[static_cast<std::size_t>(Layout::kFlexible)];
    batches.push_back({{"seconds", seconds},
                       {"gap", 1 - batch.bound_seconds / seconds},
                       {"micro_batches", batch.micro_batches},
                       {"sequences", batch.sequences},
                       {"tokens", batch.tokens},
                       {"planning_seconds", batch.planning_seconds}});
  }
  const nlohmann::ordered_json document = {
      {"ranks", plans.costs.ranks},
      {"sequences", sums.sequences},
      {"tokens", sums.tokens},
      {"longest", plans.longest},
      {"left_out", plans.left_out},
      {"seconds",
       {{"one_kind", number(plans.seconds(Layout::kOneKind))},
        {"kind_per_batch", number(plans.seconds(Layout::kKindPerBatch))},
        {"kind_per_micro_batch", number(plans.seconds(Layout::kKindPerMicroBatch))},
        {"flexible", flexible}}},
      {"gap", 1 - plans.bound_seconds() / flexible},
      {"gap_of_any_plan", 1 - sums.any_bound / flexible},
      {"micro_batches", sums.micro_batches},
      {"planning_seconds",
       {{"mean", sums.planning / static_cast<double>(plans.batches.size())},
        {"max", sums.longest_planning}}},
      {"kinds", std::move(uses)},
      {"batches", std::move(batches)}};
  return base::json_text(document);
}

}  // namespace longspan::train
