#include "train/parallel_layout.h"
#include "train/planner.h"
#include "train/step_plan.h"

namespace longspan::train {
namespace {

class FixedPlanner final : public Planner {
 public:
  FixedPlanner(const Job& job, int ranks)
      : layout_(parallel_layout(job, ranks)),
        text_(layout_text(job, layout_)),
        ranks_(ranks),
        rows_(ParallelLayout::rows(job)) {}

  std::vector<shard::SequenceDegrees> degrees() const override { return {layout_.sequence}; }
  plan::StepPlan plan(std::int64_t /*step*/) override { return plan_rows(rows_); }
  plan::StepPlan plan_rows(std::int64_t rows) const override {
    return fixed_plan(rows, ranks_, layout_.sequence.ranks());
  }
  std::string text() const override { return text_; }

 private:
  ParallelLayout layout_;
  std::string text_;
  int ranks_;
  std::int64_t rows_;
};

}  // namespace

std::unique_ptr<Planner> make_fixed_planner(const Job& job, int ranks) {
  return std::make_unique<FixedPlanner>(job, ranks);
}

}  // namespace longspan::train
