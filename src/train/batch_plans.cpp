#include "longspan/train/batch_plans.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <numeric>

#include "longspan/base/error.h"
#include "longspan/plan/planner.h"
#include "train/length_source.h"

namespace longspan::train {
namespace {

constexpr double kCannot = std::numeric_limits<double>::infinity();
/// Sequences that are drawn for one that fits, before a distribution is given up.
constexpr std::int64_t kMostDrawn = 100'000;

std::size_t place(Layout layout) { return static_cast<std::size_t>(layout); }

std::int64_t most_tokens(const plan::CostModel& costs) {
  std::int64_t most = 0;
  for (const plan::GroupKind& kind : costs.kinds) most = std::max(most, kind.max_tokens);
  return most;
}

/// Hands out the sequences that fit into some group.
class Batches {
 public:
  Batches(const BatchSetting& setting, std::int64_t most_tokens)
      : setting_(setting), source_(LengthSource::open(setting.lengths)), most_(most_tokens) {
    if (!source_.has_any(most_)) {
      throw base::InputError(fmt::format(
          "{}: all sequences are longer than {} tokens, for which the largest group has "
          "memory; take more ranks, or costs of ranks with more memory",
          setting.lengths, most_));
    }
    if (setting.batches == 0 && source_.is_distribution()) {
      throw base::InputError("--batches 0 plans an epoch, but quantiles (" + setting.lengths +
                             ") have no end: say how many batches");
    }
  }

  /// Another batch; empty: there are no more.
  std::vector<std::int64_t> next() {
    std::vector<std::int64_t> batch;
    std::int64_t tokens = 0;
    while (!is_full(batch)) {
      if (is_over()) break;
      const std::int64_t length = next_length();
      const bool fits =
          setting_.batch_tokens == 0 || batch.empty() || tokens + length <= setting_.batch_tokens;
      if (!fits) break;
      ++number_;
      tokens += length;
      batch.push_back(length);
    }
    return batch;
  }

  std::int64_t left_out() const { return left_out_; }

 private:
  bool is_full(const std::vector<std::int64_t>& batch) const {
    return setting_.batch_sequences > 0 &&
           static_cast<std::int64_t>(batch.size()) == setting_.batch_sequences;
  }

  bool is_over() {
    if (setting_.batches != 0) return false;
    while (number_ < static_cast<std::uint64_t>(source_.size()) &&
           source_.length(setting_.seed, number_) > most_) {
      ++number_;
      ++left_out_;
    }
    return number_ >= static_cast<std::uint64_t>(source_.size());
  }

  /// Of the sequence at number_, which moves on to one that fits.
  std::int64_t next_length() {
    for (std::int64_t drawn = 0;; ++drawn) {
      const std::int64_t length = source_.length(setting_.seed, number_);
      if (length <= most_) return length;
      ++number_;
      ++left_out_;
      if (source_.is_distribution() && drawn == kMostDrawn) {
        throw base::InputError(fmt::format(
            "{}: of {} sequences drawn in a row, none has at most the {} tokens for which the "
            "largest group has memory",
            setting_.lengths, kMostDrawn, most_));
      }
    }
  }

  const BatchSetting& setting_;
  LengthSource source_;
  std::int64_t most_;
  std::uint64_t number_ = 0;
  std::int64_t left_out_ = 0;
};

/// Seconds of a step with one kind of group; infinite: a sequence does not fit.
std::vector<double> seconds_by_kind(const std::vector<std::int64_t>& lengths,
                                    const plan::CostModel& costs) {
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::vector<double> seconds;
  for (std::size_t kind = 0; kind < costs.kinds.size(); ++kind) {
    seconds.push_back(longest > costs.kinds[kind].max_tokens
                          ? kCannot
                          : plan::plan_of_one_kind(lengths, costs, static_cast<int>(kind)).seconds);
  }
  return seconds;
}

void count_uses(const plan::StepPlan& plan, const std::vector<std::int64_t>& lengths,
                std::vector<KindUse>& uses) {
  for (const plan::MicroBatch& micro_batch : plan.micro_batches) {
    for (const plan::Group& group : micro_batch.groups) {
      KindUse& use = uses[static_cast<std::size_t>(group.kind)];
      ++use.groups;
      use.sequences += static_cast<std::int64_t>(group.sequences.size());
      for (const std::int32_t sequence : group.sequences) {
        use.tokens += lengths[static_cast<std::size_t>(sequence)];
      }
    }
  }
}

/// Times that a batch takes in each kind are added up in `by_kind`.
BatchPlan plan_batch(const std::vector<std::int64_t>& lengths, const plan::CostModel& costs,
                     int threads, std::vector<std::vector<double>>& by_kind,
                     plan::StepPlan& flexible) {
  BatchPlan batch;
  batch.sequences = static_cast<std::int64_t>(lengths.size());
  batch.tokens = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  by_kind.push_back(seconds_by_kind(lengths, costs));
  const std::vector<double>& kinds = by_kind.back();
  const auto best = std::min_element(kinds.begin(), kinds.end());
  batch.seconds[place(Layout::kKindPerBatch)] = *best;
  if (*best < kCannot) batch.best_kind_of_batch = best - kinds.begin();
  plan::PlannerOptions options;
  options.threads = threads;
  options.planner = plan::Planner::kPerMicroBatch;
  batch.seconds[place(Layout::kKindPerMicroBatch)] =
      plan::plan_step(lengths, costs, options).seconds;
  options.planner = plan::Planner::kFlexible;
  const auto start = std::chrono::steady_clock::now();
  flexible = plan::plan_step(lengths, costs, options);
  batch.planning_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  batch.seconds[place(Layout::kFlexible)] = flexible.seconds;
  batch.bound_seconds = flexible.bound_seconds;
  batch.any_bound_seconds = flexible.any_bound_seconds;
  batch.micro_batches = static_cast<std::int64_t>(flexible.micro_batches.size());
  return batch;
}

/// The kind that is best for all batches together, and its times.
void choose_one_kind(const std::vector<std::vector<double>>& by_kind, BatchPlans& plans) {
  double least = kCannot;
  for (std::size_t kind = 0; kind < plans.costs.kinds.size(); ++kind) {
    double seconds = 0;
    for (const std::vector<double>& batch : by_kind) seconds += batch[kind];
    if (seconds < least) {
      least = seconds;
      plans.best_kind = static_cast<int>(kind);
    }
  }
  for (std::size_t number = 0; number < by_kind.size(); ++number) {
    plans.batches[number].seconds[place(Layout::kOneKind)] =
        plans.best_kind < 0 ? kCannot : by_kind[number][static_cast<std::size_t>(plans.best_kind)];
  }
}

}  // namespace

double BatchPlans::seconds(Layout layout) const {
  double sum = 0;
  for (const BatchPlan& batch : batches) sum += batch.seconds[place(layout)];
  return sum;
}

double BatchPlans::bound_seconds() const {
  double sum = 0;
  for (const BatchPlan& batch : batches) sum += batch.bound_seconds;
  return sum;
}

BatchPlans plan_batches(const BatchSetting& setting, const plan::CostModel& costs) {
  if ((setting.batch_sequences > 0) == (setting.batch_tokens > 0)) {
    throw base::InputError("either --batch-sequences or --batch-tokens says how large a batch is");
  }
  plan::check_costs(costs);
  BatchPlans plans;
  plans.costs = costs;
  plans.uses.resize(costs.kinds.size());
  Batches source(setting, most_tokens(costs));
  std::vector<std::vector<double>> by_kind;
  for (std::int64_t number = 0; setting.batches == 0 || number < setting.batches; ++number) {
    const std::vector<std::int64_t> lengths = source.next();
    if (lengths.empty()) break;
    plan::StepPlan flexible;
    plans.batches.push_back(plan_batch(lengths, costs, setting.threads, by_kind, flexible));
    count_uses(flexible, lengths, plans.uses);
    plans.longest = std::max(plans.longest, *std::max_element(lengths.begin(), lengths.end()));
    if (number == 0) {
      plans.first_lengths = lengths;
      plans.first = std::move(flexible);
    }
  }
  plans.left_out = source.left_out();
  choose_one_kind(by_kind, plans);
  return plans;
}

}  // namespace longspan::train
