#include "longspan/shard/mesh.h"
#include "longspan/train/cost_model.h"

namespace longspan::train {

plan::CostModel make_cost_model(const Job& job, const PlanSetting& setting) {
  plan::CostModel costs;
  costs.ranks = setting.ranks;
  costs.micro_batch_seconds = 1e-3;
  for (const int degree : shard::aligned_sizes(setting.ranks)) {
    plan::GroupKind kind;
    kind.degree = degree;
    kind.fixed_seconds = 1e-3 * degree;
    kind.seconds_per_token = 1e-4 / degree + (degree > 1 ? 2e-5 : 0.0);
    kind.seconds_per_token_squared = 1e-6 / degree;
    kind.max_tokens = degree * job.training.micro_batch_tokens;
    costs.kinds.push_back(kind);
  }
  return costs;
}

}  // namespace longspan::train
