#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <future>
#include <sstream>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/plan/planner.h"
#include "train/parallel_layout.h"
#include "train/plan_message.h"
#include "train/planner.h"
#include "train/step_plan.h"

namespace longspan::train {
namespace {

using Clock = std::chrono::steady_clock;

/// Of the ranks that are to run the longest sequence: the fewest that have room for it.
int fewest_ranks_with_room(const Job& job, const plan::CostModel& costs) {
  const std::int64_t longest = job.training.micro_batch_tokens;
  int fewest = 0;
  std::int64_t most = 0;
  for (const plan::GroupKind& kind : costs.kinds) {
    most = std::max(most, kind.max_tokens);
    if (kind.max_tokens < longest || (fewest > 0 && kind.degree >= fewest)) continue;
    fewest = kind.degree;
  }
  if (fewest > 0) return fewest;
  throw base::InputError(fmt::format(
      "training.micro_batch_tokens is {}, but no group of ranks has memory for so long a document, "
      "and the largest for {} tokens; lower it, launch more ranks, or let each token take less "
      "memory",
      longest, most));
}

/// The levels of rank 0's kinds, on every rank.
std::vector<std::string> agreed_levels(const plan::CostModel& costs, comm::Communicator& world) {
  std::string text;
  for (const plan::GroupKind& kind : costs.kinds) text += kind.level + '\n';
  world.broadcast(text, 0);
  std::vector<std::string> levels;
  std::istringstream lines(text);
  for (std::string level; std::getline(lines, level);) levels.push_back(level);
  return levels;
}

class StepPlanner final : public Planner {
 public:
  StepPlanner(const Job& job, const plan::CostModel& costs, comm::Communicator& world,
              StepLengths lengths, std::int64_t end)
      : world_(&world), costs_(costs), lengths_(std::move(lengths)), end_(end) {
    options_.planner = job.parallel.planner == "flexible" ? plan::Planner::kFlexible
                                                          : plan::Planner::kPerMicroBatch;
    std::vector<double> found(1);
    comm::run_agreed(world, [&] {
      if (world.rank() == 0) found[0] = fewest_ranks_with_room(job, costs_);
    });
    world.all_reduce_max(found);
    row_ranks_ = static_cast<int>(found[0]);
    degrees_ = aligned_degrees(job, world.size());
    levels_ = agreed_levels(costs_, world);
    text_ = layout_text(job, parallel_layout(job, world.size()));
  }

  std::vector<shard::SequenceDegrees> degrees() const override { return degrees_; }
  std::vector<std::string> levels() const override { return levels_; }

  plan::StepPlan plan(std::int64_t step) override {
    std::string message;
    double waited = 0;
    if (world_->rank() == 0) {
      const auto start = Clock::now();
      if (step != coming_) begin(step);
      const bool waits = message_.wait_for(Clock::duration::zero()) != std::future_status::ready;
      message = message_.get();
      if (waits) waited = std::chrono::duration<double>(Clock::now() - start).count();
    }
    world_->broadcast(message, 0);
    plan::StepPlan plan = plan_in(message);
    if (world_->rank() == 0) {
      metrics_.emplace();
      metrics_->wait_seconds = waited;
      metrics_->predicted_seconds = plan.seconds;
      metrics_->micro_batches = static_cast<std::int64_t>(plan.micro_batches.size());
      if (plan.bound_seconds > 0) metrics_->gap = plan.gap();
      if (step + 1 < end_) begin(step + 1);
    }
    return plan;
  }

  plan::StepPlan plan_rows(std::int64_t rows) const override {
    return fixed_plan(rows, world_->size(), row_ranks_);
  }

  std::string text() const override { return text_; }
  std::optional<PlanMetrics> metrics() const override { return metrics_; }

 private:
  /// What all ranks are to be told, whatever happens.
  static std::string make_message(const std::vector<std::int64_t>& lengths,
                                  const plan::CostModel& costs,
                                  const plan::PlannerOptions& options) noexcept {
    try {
      const plan::StepPlan plan = plan::plan_step(lengths, costs, options);
      plan::check_plan(plan, lengths, costs);
      return message_of(plan);
    } catch (const base::Error& error) {
      return message_of(error.code(), error.what());
    } catch (const std::exception& error) {
      return message_of(base::ExitCode::kInternal,
                        fmt::format("the planner of steps failed: {}", error.what()));
    }
  }

  /// The thread has copies of its own; lengths are looked up here, since samplers are not for
  /// several threads.
  void begin(std::int64_t step) {
    coming_ = step;
    message_ = std::async(std::launch::async, make_message, lengths_(step), costs_, options_);
  }

  comm::Communicator* world_;
  plan::CostModel costs_;  // on rank 0
  plan::PlannerOptions options_;
  StepLengths lengths_;
  std::int64_t end_;
  int row_ranks_ = 1;
  std::vector<shard::SequenceDegrees> degrees_;
  std::vector<std::string> levels_;
  std::string text_;
  std::int64_t coming_ = -1;          // the step that is being planned
  std::future<std::string> message_;  // of it
  std::optional<PlanMetrics> metrics_;
};

}  // namespace

std::unique_ptr<Planner> make_step_planner(const Job& job, const plan::CostModel& costs,
                                           comm::Communicator& world, StepLengths lengths,
                                           std::int64_t end) {
  return std::make_unique<StepPlanner>(job, costs, world, std::move(lengths), end);
}

}  // namespace longspan::train
