#include "longspan/optim/block_choice.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>
#include <vector>

#include "longspan/base/error.h"

using namespace longspan;
using optim::BlockChoice;

namespace {

std::set<int> chosen(const BlockChoice& choice, int count) {
  std::set<int> numbers;
  for (int number = 0; number < count; ++number) {
    if (choice.has(number)) numbers.insert(number);
  }
  return numbers;
}

/// Updates after which a new choice is due, when these losses are observed one after another.
std::vector<int> due_at(const optim::BlockConfig& config, const std::vector<double>& losses) {
  BlockChoice choice(config, {1, 1});
  std::vector<int> due;
  for (std::size_t update = 0; update < losses.size(); ++update) {
    if (!choice.observe(losses[update])) continue;
    due.push_back(static_cast<int>(update));
    choice.choose({1.0, 1.0}, static_cast<std::int64_t>(update));
  }
  return due;
}

}  // namespace

TEST_CASE("what is chosen has the largest gradients that fit, the first of equal ones first") {
  BlockChoice choice({.active = 0.5}, {40, 30, 20, 10, 100});  // 100 of 200 elements
  CHECK(chosen(choice, 5).empty());
  choice.choose({4.0, 9.0, 1.0, 1.0, 2.0}, 0);
  CHECK(chosen(choice, 5) == std::set<int>{0, 1, 2, 3});  // 4 does not fit behind 1 and 0
  BlockChoice other({.active = 0.3}, {40, 30, 20, 10, 100});
  other.choose({1.0, 1.0, 1.0, 1.0, 1.0}, 0);
  CHECK(chosen(other, 5) == std::set<int>{0, 2});  // of 60: 40, not 30, 20
}

TEST_CASE("the highest score is chosen even where it alone is too large, and fits what is kept") {
  BlockChoice choice({.active = 0.1}, {900, 50, 50});
  CHECK(choice.most() == 900);
  choice.choose({2.0, 1.0, 1.0}, 0);
  CHECK(chosen(choice, 3) == std::set<int>{0});
  BlockChoice other({.active = 0.1}, {900, 50, 50});
  other.choose({1.0, 2.0, 1.5}, 0);
  CHECK(chosen(other, 3) == std::set<int>{1, 2});
  CHECK(BlockChoice({.active = 0.5}, {40, 60}).most() == 60);
  CHECK(BlockChoice({.active = 0.8}, {40, 60}).most() == 80);
  CHECK(BlockChoice({.active = 1e-9}, {40, 60}).most() == 60);
}

TEST_CASE("a score is the gradient's norm over exp of the part of choices it was in") {
  // Of two, one fits. The first has the larger gradient, by less than e for its norm.
  BlockChoice choice({.active = 0.5}, {10, 10});
  const std::vector<double> squares{std::exp(1.8), 1.0};
  choice.choose(squares, 0);
  CHECK(chosen(choice, 2) == std::set<int>{0});
  choice.choose(squares, 1);  // e^0.9 / e^1 against 1
  CHECK(chosen(choice, 2) == std::set<int>{1});
  choice.choose(squares, 2);  // e^0.9 / e^0.5 against 1 / e^0.5
  CHECK(chosen(choice, 2) == std::set<int>{0});
  choice.choose(squares, 3);  // e^0.9 / e^(2/3) against 1 / e^(1/3)
  CHECK(chosen(choice, 2) == std::set<int>{0});
  choice.choose(squares, 4);  // e^0.9 / e^(3/4) against 1 / e^(1/4)
  CHECK(chosen(choice, 2) == std::set<int>{0});
  CHECK(choice.begun(0) == 2);  // it stayed since
  CHECK(choice.begun(1) == 1);
  CHECK_THROWS_AS(choice.choose({1.0}, 5), base::InternalError);
}

TEST_CASE("a choice is due at the first update, and after its interval") {
  const std::vector<double> falling{9, 8, 7, 6, 5, 4, 3, 2};
  CHECK(due_at({.interval = 3, .patience = 0}, falling) == std::vector<int>{0, 3, 6});
  CHECK(due_at({.interval = 1, .patience = 0}, falling) ==
        std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(due_at({.interval = 0, .patience = 0}, falling) == std::vector<int>{0});
}

TEST_CASE("a choice is due when the mean of patience losses is above that of those before") {
  // Since the choice at 0: (4, 6), (5, 4), (5, 6) of means 5, 4.5, 5.5 against 4.75.
  const std::vector<double> losses{100, 4, 6, 5, 4, 5, 6, 1, 1, 2, 2, 9};
  // At 6; then (1, 1), (2, 2).
  CHECK(due_at({.interval = 0, .patience = 2}, losses) == std::vector<int>{0, 6, 10});
  CHECK(due_at({.interval = 0, .patience = 2}, {100, 4, 6, 4, 6, 5, 5}) == std::vector<int>{0});
  CHECK(due_at({.interval = 5, .patience = 2}, losses) == std::vector<int>{0, 5, 10});
}

TEST_CASE("a choice goes on from its numbers") {
  const optim::BlockConfig config{.active = 0.5, .interval = 5, .patience = 2};
  const std::vector<double> losses{3.1, 2.9, 3.3, 2.2, 4.4, 1.7, 2.6, 2.8, 3.9, 2.0, 3.0};
  BlockChoice straight(config, {3, 2, 4, 1});
  BlockChoice resumed(config, {3, 2, 4, 1});
  for (std::size_t update = 0; update < losses.size(); ++update) {
    BlockChoice next(config, {3, 2, 4, 1});
    next.set(resumed.of_parameters(), resumed.sums());
    resumed = next;
    const bool is_due = straight.observe(losses[update]);
    CHECK(resumed.observe(losses[update]) == is_due);
    if (!is_due) continue;
    const double some = losses[update];
    const std::vector<double> squares{some, 9 / some, 4.0, 2.0};
    straight.choose(squares, static_cast<std::int64_t>(update));
    resumed.choose(squares, static_cast<std::int64_t>(update));
    CHECK(chosen(resumed, 4) == chosen(straight, 4));
  }
  CHECK(resumed.of_parameters() == straight.of_parameters());
  CHECK(resumed.sums() == straight.sums());
  CHECK(straight.sums()[0] > 2);
}
