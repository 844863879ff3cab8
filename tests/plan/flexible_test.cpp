#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/plan/planner.h"
#include "tests/plan/costs_bench.h"

namespace longspan::plan {
namespace {

using test::small_costs;
using Lengths = std::vector<std::int64_t>;

/// Every way to spread sequences over groups that fit beside one another, to its end.
class Exhaustive {
 public:
  Exhaustive(const Lengths& lengths, const CostModel& costs) : lengths_(lengths), costs_(costs) {}

  /// The fastest micro-batch of these sequences; infinite where there is none.
  double best(const std::vector<std::int32_t>& sequences) {
    best_ = std::numeric_limits<double>::infinity();
    groups_.clear();
    place(sequences, 0, costs_.ranks);
    return best_ + costs_.micro_batch_seconds;
  }

 private:
  struct Group {
    int kind;
    std::int64_t tokens;
    double seconds;
  };

  void place(const std::vector<std::int32_t>& sequences, std::size_t next, int ranks_left) {
    if (next == sequences.size()) {
      double slowest = 0;
      for (const Group& group : groups_) slowest = std::max(slowest, group.seconds);
      best_ = std::min(best_, slowest);
      return;
    }
    const std::int64_t tokens = lengths_[static_cast<std::size_t>(sequences[next])];
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      const GroupKind& kind = costs_.kinds[static_cast<std::size_t>(groups_[g].kind)];
      if (groups_[g].tokens + tokens > kind.max_tokens) continue;
      const Group before = groups_[g];
      groups_[g].tokens += tokens;
      groups_[g].seconds += kind.seconds(tokens);
      place(sequences, next + 1, ranks_left);
      groups_[g] = before;
    }
    for (std::size_t k = 0; k < costs_.kinds.size(); ++k) {
      const GroupKind& kind = costs_.kinds[k];
      if (kind.degree > ranks_left || tokens > kind.max_tokens) continue;
      groups_.push_back({static_cast<int>(k), tokens, kind.fixed_seconds + kind.seconds(tokens)});
      place(sequences, next + 1, ranks_left - kind.degree);
      groups_.pop_back();
    }
  }

  const Lengths& lengths_;
  const CostModel& costs_;
  std::vector<Group> groups_;
  double best_ = 0;
};

std::vector<std::int32_t> sequences_of(const MicroBatch& micro_batch) {
  std::vector<std::int32_t> all;
  for (const Group& group : micro_batch.groups) {
    all.insert(all.end(), group.sequences.begin(), group.sequences.end());
  }
  return all;
}

/// Long-tailed: most are short, a few are as long as all ranks together can hold.
Lengths long_tailed(std::mt19937_64& numbers, std::size_t count, std::int64_t most) {
  std::lognormal_distribution<double> draw(std::log(20.0), 1.2);
  Lengths lengths(count);
  for (std::int64_t& length : lengths) {
    length = std::clamp<std::int64_t>(std::llround(draw(numbers)), 1, most);
  }
  return lengths;
}

bool is_same_plan(const StepPlan& one, const StepPlan& other) {
  if (one.micro_batches.size() != other.micro_batches.size()) return false;
  for (std::size_t m = 0; m < one.micro_batches.size(); ++m) {
    const auto& left = one.micro_batches[m].groups;
    const auto& right = other.micro_batches[m].groups;
    if (left.size() != right.size()) return false;
    for (std::size_t g = 0; g < left.size(); ++g) {
      if (left[g].first_rank != right[g].first_rank || left[g].kind != right[g].kind ||
          left[g].sequences != right[g].sequences) {
        return false;
      }
    }
  }
  return one.seconds == other.seconds && one.bound_seconds == other.bound_seconds &&
         one.any_bound_seconds == other.any_bound_seconds;
}

TEST_CASE("bounds are below what an exhaustive search finds, and plans close to it") {
  std::mt19937_64 numbers(7);
  double worst = 0;
  for (int number = 0; number < 120; ++number) {
    const int ranks = std::vector<int>{1, 2, 3, 4, 6}[static_cast<std::size_t>(number % 5)];
    const CostModel costs = small_costs(ranks);
    const Lengths lengths = long_tailed(numbers, 1 + numbers() % 6, costs.kinds.back().max_tokens);
    INFO("batch " << number << " on " << ranks << " ranks");
    const StepPlan plan = plan_step(lengths, costs, {});
    double best = 0;
    Exhaustive exhaustive(lengths, costs);
    for (const MicroBatch& micro_batch : plan.micro_batches) {
      best += exhaustive.best(sequences_of(micro_batch));
    }
    const double rounding = 1e-9 * best;
    CHECK(plan.bound_seconds > 0);
    CHECK(plan.bound_seconds <= best + rounding);
    CHECK(plan.any_bound_seconds <= best + rounding);
    CHECK(plan.seconds >= best - rounding);
    worst = std::max(worst, plan.seconds / best - 1);
  }
  CHECK(worst <= 0.011);  // the search may end where the gap is 1%
}

TEST_CASE("flexible plans of random batches can be run and are no slower than others") {
  std::mt19937_64 numbers(11);
  for (int number = 0; number < 60; ++number) {
    const int ranks = 1 << (number % 5);
    const CostModel costs = small_costs(ranks);
    const Lengths lengths = long_tailed(numbers, 1 + numbers() % 60, 100 * ranks);
    INFO("batch " << number << " on " << ranks << " ranks");
    const StepPlan flexible = plan_step(lengths, costs, {Planner::kFlexible, 1, 1000});
    const StepPlan uniform = plan_step(lengths, costs, {Planner::kPerMicroBatch, 1});
    check_plan(flexible, lengths, costs);
    check_plan(uniform, lengths, costs);
    CHECK(flexible.seconds <= uniform.seconds * (1 + 1e-9));
    const bool fits_largest =
        *std::max_element(lengths.begin(), lengths.end()) <= costs.kinds.back().max_tokens;
    REQUIRE(fits_largest);
    const int largest = static_cast<int>(costs.kinds.size()) - 1;
    CHECK(uniform.seconds <= plan_of_one_kind(lengths, costs, largest).seconds * (1 + 1e-9));
  }
}

TEST_CASE("a plan does not depend on the number of threads, nor on the run") {
  std::mt19937_64 numbers(13);
  const CostModel costs = small_costs(16);
  for (int number = 0; number < 4; ++number) {
    const Lengths lengths = long_tailed(numbers, 60, 1600);
    for (const Planner planner : {Planner::kFlexible, Planner::kPerMicroBatch}) {
      const StepPlan one = plan_step(lengths, costs, {planner, 1, 1000});
      CHECK(is_same_plan(one, plan_step(lengths, costs, {planner, 1, 1000})));
      CHECK(is_same_plan(one, plan_step(lengths, costs, {planner, 3, 1000})));
    }
  }
}

TEST_CASE("long sequences get many ranks while short ones run beside them") {
  CostModel costs = small_costs(8);
  costs.micro_batch_seconds = 50;
  const StepPlan plan = plan_step({190, 90, 90, 90, 90}, costs, {});
  REQUIRE(plan.micro_batches.size() == 1);
  const auto& groups = plan.micro_batches[0].groups;
  REQUIRE(groups.size() == 5);
  CHECK(groups.front().degree == 4);
  CHECK(groups.front().sequences == std::vector<std::int32_t>{0});
  CHECK(groups.back().degree == 1);
}

TEST_CASE("of kinds with as many ranks the cheaper one is taken while memory allows it") {
  CostModel costs{1, {}, 0, ""};
  costs.kinds.push_back({1, "none", 0.1, 1.0, 0, 100});
  costs.kinds.push_back({1, "block", 0.1, 1.3, 0, 1000});
  const StepPlan small = plan_step({40, 40}, costs, {});
  REQUIRE(small.micro_batches.size() == 1);
  CHECK(small.micro_batches[0].groups[0].kind == 0);
  const StepPlan large = plan_step({500}, costs, {});
  REQUIRE(large.micro_batches.size() == 1);
  CHECK(large.micro_batches[0].groups[0].kind == 1);
}

TEST_CASE("costs that make no sense are refused") {
  const auto refused = [](const auto& change, const char* says) {
    CostModel costs = small_costs(4);
    change(costs);
    CHECK_THROWS_AS(plan_step({5}, costs, {}), base::InputError);
    CHECK_THROWS_WITH(plan_step({5}, costs, {}), Catch::Contains(says));
  };
  refused([](CostModel& costs) { costs.kinds[1].degree = 3; }, "power of two");
  refused([](CostModel& costs) { costs.kinds[2].degree = 8; }, "up to all 4");
  refused([](CostModel& costs) { costs.kinds[0].max_tokens = 0; }, "memory for 0 tokens");
  refused([](CostModel& costs) { costs.kinds[0].seconds_per_token = NAN; }, "not finite");
  refused([](CostModel& costs) { costs.kinds.clear(); }, "no kinds");
  refused([](CostModel& costs) { costs.ranks = 0; }, "0 ranks");
}

}  // namespace
}  // namespace longspan::plan
