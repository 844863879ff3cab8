#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <string>

#include "longspan/base/error.h"
#include "longspan/plan/planner.h"

namespace longspan::plan {
namespace {

/// Times are sums in an order that the checker does not know.
constexpr double kRoundingOfTimes = 1e-9;

[[noreturn]] void refuse(const std::string& what) {
  throw base::InternalError("a step plan that cannot be run: " + what);
}

bool is_same_time(double left, double right) {
  return std::abs(left - right) <= kRoundingOfTimes * std::max(std::abs(left), std::abs(right));
}

/// Checks one micro-batch after another.
class Checker {
 public:
  Checker(const std::vector<std::int64_t>& lengths, const CostModel& costs)
      : lengths_(lengths), costs_(costs), uses_(lengths.size()) {}

  void check(const MicroBatch& micro_batch, std::size_t number) {
    where_ = fmt::format("micro-batch {}", number);
    if (micro_batch.groups.empty()) refuse(where_ + " has no groups");
    std::vector<bool> taken(static_cast<std::size_t>(costs_.ranks));
    double slowest = 0;
    for (const Group& group : micro_batch.groups) {
      check_ranks(group, taken);
      slowest = std::max(slowest, seconds_of(group));
    }
    const double seconds = costs_.micro_batch_seconds + slowest;
    if (!is_same_time(micro_batch.seconds, seconds)) {
      refuse(fmt::format("{} takes {} s by the costs, not {} s", where_, seconds,
                         micro_batch.seconds));
    }
  }

  void check_all_used() const {
    for (std::size_t sequence = 0; sequence < uses_.size(); ++sequence) {
      if (uses_[sequence] != 1) {
        refuse(fmt::format("sequence {} is in {} groups, not in one", sequence, uses_[sequence]));
      }
    }
  }

 private:
  void check_ranks(const Group& group, std::vector<bool>& taken) const {
    if (group.kind < 0 || static_cast<std::size_t>(group.kind) >= costs_.kinds.size()) {
      refuse(
          fmt::format("{} has a group of kind {} of {}", where_, group.kind, costs_.kinds.size()));
    }
    const int degree = costs_.kinds[static_cast<std::size_t>(group.kind)].degree;
    if (group.degree != degree) {
      refuse(fmt::format("{} has a group of {} ranks of kind {}, which has {}", where_,
                         group.degree, group.kind, degree));
    }
    if (group.first_rank < 0 || group.first_rank > costs_.ranks - degree ||
        group.first_rank % degree != 0) {
      refuse(
          fmt::format("{} has a group of {} ranks at rank {} of {}; it begins at a multiple of "
                      "its size",
                      where_, degree, group.first_rank, costs_.ranks));
    }
    for (int rank = group.first_rank; rank < group.first_rank + degree; ++rank) {
      if (taken[static_cast<std::size_t>(rank)]) {
        refuse(fmt::format("{} has rank {} in two groups", where_, rank));
      }
      taken[static_cast<std::size_t>(rank)] = true;
    }
  }

  double seconds_of(const Group& group) {
    const GroupKind& kind = costs_.kinds[static_cast<std::size_t>(group.kind)];
    if (group.sequences.empty()) refuse(where_ + " has a group without sequences");
    double seconds = kind.fixed_seconds;
    std::int64_t tokens = 0;
    for (const std::int32_t sequence : group.sequences) {
      if (sequence < 0 || static_cast<std::size_t>(sequence) >= lengths_.size()) {
        refuse(fmt::format("{} has sequence {} of {}", where_, sequence, lengths_.size()));
      }
      const auto place = static_cast<std::size_t>(sequence);
      ++uses_[place];
      tokens += lengths_[place];
      seconds += kind.seconds(lengths_[place]);
    }
    if (tokens > kind.max_tokens) {
      refuse(fmt::format("{} has a group of {} ranks with {} tokens, which has memory for {}",
                         where_, kind.degree, tokens, kind.max_tokens));
    }
    return seconds;
  }

  const std::vector<std::int64_t>& lengths_;
  const CostModel& costs_;
  std::vector<int> uses_;
  std::string where_;
};

}  // namespace

void check_plan(const StepPlan& plan, const std::vector<std::int64_t>& lengths,
                const CostModel& costs) {
  Checker checker(lengths, costs);
  double seconds = 0;
  for (std::size_t number = 0; number < plan.micro_batches.size(); ++number) {
    checker.check(plan.micro_batches[number], number);
    seconds += plan.micro_batches[number].seconds;
  }
  checker.check_all_used();
  if (!is_same_time(plan.seconds, seconds)) {
    refuse(fmt::format("its micro-batches take {} s, not {} s", seconds, plan.seconds));
  }
  if (!(plan.bound_seconds >= 0) || plan.bound_seconds > seconds * (1 + kRoundingOfTimes)) {
    refuse(fmt::format("no plan takes less than {} s, it says, yet it takes {} s",
                       plan.bound_seconds, seconds));
  }
}

void check_costs(const CostModel& costs) {
  const auto bad = [](const std::string& what) {
    throw base::InputError("costs that nothing can be planned with: " + what);
  };
  const auto is_time = [](double seconds) { return std::isfinite(seconds) && seconds >= 0; };
  if (costs.ranks < 1) bad(fmt::format("{} ranks; 1 or more are needed", costs.ranks));
  if (costs.kinds.empty()) bad("there are no kinds of groups; 1 or more are needed");
  if (!is_time(costs.micro_batch_seconds)) {
    bad(fmt::format("a micro-batch takes {} s; 0 or more are legal", costs.micro_batch_seconds));
  }
  for (std::size_t number = 0; number < costs.kinds.size(); ++number) {
    const GroupKind& kind = costs.kinds[number];
    const std::string where = fmt::format("kind {} ", number);
    if (kind.degree < 1 || kind.degree > costs.ranks ||
        !std::has_single_bit(static_cast<unsigned>(kind.degree))) {
      bad(fmt::format("{}has {} ranks; a power of two up to all {} is legal", where, kind.degree,
                      costs.ranks));
    }
    if (kind.max_tokens < 1) {
      bad(fmt::format("{}has memory for {} tokens; 1 or more are legal", where, kind.max_tokens));
    }
    if (!is_time(kind.fixed_seconds) || !is_time(kind.seconds_per_token) ||
        !is_time(kind.seconds_per_token_squared)) {
      bad(where + "has a time that is not finite or below 0");
    }
  }
}

}  // namespace longspan::plan
