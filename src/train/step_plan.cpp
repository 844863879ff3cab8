#include "train/step_plan.h"

namespace longspan::train {

std::shared_ptr<const data::MicroBatch> empty_micro_batch() {
  auto batch = std::make_shared<data::MicroBatch>();
  batch->cu_seqlens = {0};
  return batch;
}

StepPlan StepPlan::fixed(std::int64_t rows, const shard::Mesh& mesh) {
  const std::int64_t groups = mesh.data().size();
  StepPlan plan;
  for (std::int64_t first = 0; first < rows; first += groups) {
    const std::int64_t row = first + mesh.data().rank();
    plan.rows.push_back(row < rows ? row : kNoRow);
  }
  return plan;
}

}  // namespace longspan::train
