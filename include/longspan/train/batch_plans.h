#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "longspan/plan/cost_model.h"
#include "longspan/plan/step_plan.h"

namespace longspan::train {

/// Which batches are planned.
struct BatchSetting {
  std::string lengths;               ///< file that lengths come from (LengthSource)
  std::int64_t batch_sequences = 0;  ///< of each batch; 0: as many as batch_tokens holds
  std::int64_t batch_tokens = 0;     ///< of each batch, at most, but for one longer sequence
  std::int64_t batches = 10;         ///< 0: an epoch of a list
  std::uint64_t seed = 0;
  int threads = 1;
};

/// Ways to lay out a step.
enum class Layout : std::uint8_t { kOneKind, kKindPerBatch, kKindPerMicroBatch, kFlexible };
inline constexpr std::size_t kLayouts = 4;

struct BatchPlan {
  std::array<double, kLayouts>
      seconds{};             ///< of a step; kOneKind: of the kind that is best for all
  double bound_seconds = 0;  ///< of the flexible plan
  double any_bound_seconds = 0;
  double planning_seconds = 0;  ///< that the flexible plan took to find
  std::int64_t sequences = 0;
  std::int64_t tokens = 0;
  std::int64_t micro_batches = 0;
  std::int64_t best_kind_of_batch = -1;  ///< -1: no kind fits all its sequences
};

/// What the flexible plans gave to the groups of a kind.
struct KindUse {
  std::int64_t groups = 0;
  std::int64_t sequences = 0;
  std::int64_t tokens = 0;
};

struct BatchPlans {
  plan::CostModel costs;
  std::vector<BatchPlan> batches;
  std::vector<KindUse> uses;                ///< of costs.kinds
  std::int64_t left_out = 0;                ///< sequences longer than any group has memory for
  std::int64_t longest = 0;                 ///< tokens of the longest that was planned
  int best_kind = -1;                       ///< of kOneKind; -1: none fits all sequences
  std::vector<std::int64_t> first_lengths;  ///< of the first batch
  plan::StepPlan first;                     ///< its flexible plan

  /// Of all batches; infinite where the layout cannot be.
  double seconds(Layout layout) const;
  double bound_seconds() const;
};

/// Plans batches in every layout. Throws InputError where nothing can be planned.
BatchPlans plan_batches(const BatchSetting& setting, const plan::CostModel& costs);

std::string batch_plans_text(const BatchPlans& plans);
/// One JSON object.
std::string batch_plans_json(const BatchPlans& plans);

/// A step as an SVG picture: ranks from top to bottom, time to the right, a box for each group.
std::string step_picture(const plan::StepPlan& plan, const std::vector<std::int64_t>& lengths,
                         const plan::CostModel& costs);

}  // namespace longspan::train
