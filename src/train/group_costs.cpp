#include "train/group_costs.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "longspan/base/error.h"
#include "longspan/plan/cost_file.h"
#include "longspan/plan/planner.h"
#include "longspan/train/cost_model.h"
#include "train/step_plan.h"

namespace longspan::train {
namespace {

/// All that the costs say of kinds must be something that the trainer can run.
void check(const Job& job, const PlanSetting& setting, const plan::CostModel& costs) {
  const auto refuse = [&](const std::string& what) {
    throw base::InputError(fmt::format("parallel.costs \"{}\": {}", job.parallel.costs, what));
  };
  plan::check_costs(costs);
  if (costs.ranks != setting.ranks) {
    refuse(
        fmt::format("the costs are for {} rank(s), but there are {}", costs.ranks, setting.ranks));
  }
  for (std::size_t number = 0; number < costs.kinds.size(); ++number) {
    const plan::GroupKind& kind = costs.kinds[number];
    if (setting.ranks % kind.degree != 0) {
      refuse(fmt::format("kind {} has groups of {} ranks, of which {} is no multiple", number,
                         kind.degree, setting.ranks));
    }
    try {
      policies_of(job, {kind.level});
    } catch (const base::InputError& error) {
      refuse(fmt::format("the level of kind {} is none: {}", number, error.what()));
    }
  }
}

/// A file's figures may be of other memory than there is here.
void keep_to_memory(const Job& job, const PlanSetting& setting, plan::CostModel& costs) {
  for (plan::GroupKind& kind : costs.kinds) {
    Job own = job;
    if (!kind.level.empty()) own.memory.activation_checkpointing = kind.level;
    kind.max_tokens = std::min(kind.max_tokens, group_capacity(own, setting, kind.degree));
  }
  std::erase_if(costs.kinds, [](const plan::GroupKind& kind) { return kind.max_tokens == 0; });
  if (!costs.kinds.empty()) return;
  throw base::InputError(
      fmt::format("parallel.costs \"{}\": no kind of group has memory for even one token here",
                  job.parallel.costs));
}

}  // namespace

plan::CostModel group_costs(const Job& job, const PlanSetting& setting) {
  plan::CostModel costs = job.parallel.costs == "auto" ? make_cost_model(job, setting)
                                                       : plan::read_cost_file(job.parallel.costs);
  check(job, setting, costs);
  if (job.parallel.costs != "auto") keep_to_memory(job, setting, costs);
  return costs;
}

}  // namespace longspan::train
