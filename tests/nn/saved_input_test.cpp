// Slots whose codes are rounded at random: what they draw, and what that does to a gradient.
#include "longspan/nn/saved_input.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/base/error.h"
#include "longspan/nn/linear.h"
#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Index;
using backend::Tensor;
using test::LayerBench;
using Codes = SavePolicy::Codes;
using Rounding = SavePolicy::Rounding;

constexpr Index kTokens = 7;
constexpr SavePolicy kAtRandom{Codes::kBlocks, false, Rounding::kStochastic};

struct Bench : LayerBench {
  /// A pass of a step, with numbers of tokens that are not their places.
  Pass drawing(std::uint64_t step, std::uint64_t seed = 9) const {
    Pass pass = this->pass({kTokens});
    pass.set_draws({.seed = seed, .step = step, .numbers = ids(kNumbers)});
    return pass;
  }
  /// A copy of x as it comes back from waiting.
  Tensor waited(Pass& pass, const Tensor& x, const SavePolicy& policy, const SlotRow& row) const {
    const Tensor copy = empty(x.shape());
    backend().copy(copy, x);
    pass.push(copy, policy, row);
    return pass.pop();
  }

  /// Values of a part of a tensor.
  std::vector<double> dense(const Tensor& part) const {
    const Tensor copy = empty(part.shape());
    backend().copy(copy, part);
    return values(copy);
  }

  inline static const std::vector<std::int32_t> kNumbers = {90, 3, 11, 12, 700, 5, 1};
};

TEST_CASE("saved input: what is drawn goes with seed, step, block, slot, token and element") {
  Bench bench;
  const Tensor x = bench.random({kTokens, 48});
  const SlotRow row{SlotKind::kMlpUp, 48};
  Pass pass = bench.drawing(3);
  const std::vector<double> first = LayerBench::values(bench.waited(pass, x, kAtRandom, row));
  const auto differs = [&](Pass& other, const SlotRow& other_row) {
    return LayerBench::values(bench.waited(other, x, kAtRandom, other_row)) != first;
  };
  CHECK_FALSE(differs(pass, row));  // again
  Pass same = bench.drawing(3);
  CHECK_FALSE(differs(same, row));
  Pass step = bench.drawing(4);
  CHECK(differs(step, row));
  Pass seed = bench.drawing(3, 10);
  CHECK(differs(seed, row));
  CHECK(differs(pass, {SlotKind::kMlpProjected, 48}));
  pass.start_block();
  CHECK(differs(pass, row));

  // Tokens that are equal, and elements, do not draw alike.
  LayerBench::assign(x, std::vector<double>(static_cast<std::size_t>(x.elements()), 0.5));
  for (Index t = 0; t < kTokens; ++t) {
    x.data<double>()[t * 48] = 0.0;
    x.data<double>()[t * 48 + 1] = 1.0;  // 0.5 is between two steps
  }
  const Tensor drawn = bench.waited(pass, x, kAtRandom, row);
  const double* rows = drawn.data<double>();
  CHECK_FALSE(std::equal(rows, rows + 48, rows + 48));
  CHECK_FALSE(std::equal(rows + 2, rows + 24, rows + 24));
}

TEST_CASE("saved input: rows that wait in parts are those of the whole; others are missing") {
  Bench bench;
  const Tensor x = bench.random({kTokens, 48});
  const SlotRow row{SlotKind::kMlpUp, 48};
  constexpr SavePolicy kAgain{Codes::kNone, false, Rounding::kNearest, true};
  Pass pass = bench.drawing(3);
  const std::vector<double> coded = LayerBench::values(bench.waited(pass, x, kAtRandom, row));
  const auto rows_of = [](const std::vector<double>& all, Index begin, Index end) {
    return std::vector<double>(all.begin() + begin * 48, all.begin() + end * 48);
  };
  // 2 rows in codes, 2 as they are, 1 made again, 2 in codes.
  const SaveParts parts(
      {{kAtRandom, 300'000}, {SavePolicy{}, 600'000}, {kAgain, 720'000}, {kAtRandom}});
  const Tensor copy = bench.empty(x.shape());
  bench.backend().copy(copy, x);
  pass.push(copy, parts, row);
  const Pass::Incomplete found = pass.pop_incomplete();
  CHECK(found.missing == std::vector<shard::Range>{{4, 5}});
  const std::vector<double> values = LayerBench::values(found.tensor);
  CHECK(rows_of(values, 0, 2) == rows_of(coded, 0, 2));
  CHECK(rows_of(values, 2, 4) == rows_of(LayerBench::values(x), 2, 4));
  CHECK(rows_of(values, 5, 7) == rows_of(coded, 5, 7));

  pass.push(copy, parts, row);
  CHECK_THROWS_AS(pass.pop(), base::InternalError);
}

TEST_CASE("saved input: heads that ranks have exchanged come back as on a rank that has all") {
  Bench bench;
  constexpr Index kHead = 20;  // draws' blocks of 8 cross heads
  constexpr Index kHeads = 5;
  const Codes codes = Codes::kBlocks;
  const Tensor x = bench.random({kTokens, kHeads * kHead});
  Pass whole = bench.drawing(3);
  const SavePolicy policy{codes, false, GENERATE(Rounding::kStochastic, Rounding::kNearest)};
  const Tensor expected = bench.waited(whole, x, policy, {SlotKind::kAttentionQkv, kHead});

  // Heads 1 and 2, and 4, of tokens 2 to 6.
  const Tensor part = bench.empty({5, 3 * kHead});
  const std::vector<SlotRow::Columns> runs = {
      {0, 2 * kHead, kHead}, {2 * kHead, 2 * kHead, 0}, {2 * kHead, 3 * kHead, 4 * kHead}};
  const auto rows_of = [](const Tensor& all) { return all.rows(2, 7); };
  for (const SlotRow::Columns& run : runs) {
    if (run.begin == run.end) continue;
    bench.backend().copy(part.columns(run.begin, run.end),
                         rows_of(x).columns(run.first, run.first + run.end - run.begin));
  }
  Pass pass = bench.pass({3});
  pass.set_draws({.seed = 9,
                  .step = 3,
                  .numbers = bench.ids({11, 12, 700}),
                  .exchanged_numbers = bench.ids({11, 12, 700, 5, 1})});
  const Tensor found = bench.waited(
      pass, part, policy,
      {.kind = SlotKind::kAttentionQkv, .unit = kHead, .columns = runs, .whole = kHeads * kHead});
  for (const SlotRow::Columns& run : runs) {
    if (run.begin == run.end) continue;
    CHECK(bench.dense(found.columns(run.begin, run.end)) ==
          bench.dense(rows_of(expected).columns(run.first, run.first + run.end - run.begin)));
  }
}

TEST_CASE("saved input: the mean of a weight's gradients tends to the gradient") {
  Bench bench;
  ParameterSet set;
  const Linear linear(set, {{"w", 6}}, 32);
  bench.fill(set);
  const Tensor x = bench.random({kTokens, 32});
  const Tensor dy = bench.random({kTokens, 6});
  const auto gradient = [&](Pass& pass, const SavePolicy& policy) {
    set.start_gradients();
    linear.backward_weight(dy, bench.waited(pass, x, policy, {SlotKind::kMlpUp, 32}), pass);
    set.settle_gradients();
    return LayerBench::values(set.gradient(0));
  };
  Pass plain = bench.pass({kTokens});
  const std::vector<double> exact = gradient(plain, {});
  const std::vector<double> nearest = gradient(plain, {Codes::kBlocks, false});

  constexpr int kSteps = 2000;
  std::vector<double> sum(exact.size());
  std::vector<double> squares(exact.size());
  for (std::uint64_t step = 0; step < kSteps; ++step) {
    Pass pass = bench.drawing(step);
    const std::vector<double> one = gradient(pass, kAtRandom);
    for (std::size_t i = 0; i < one.size(); ++i) {
      sum[i] += one[i] - exact[i];
      squares[i] += (one[i] - exact[i]) * (one[i] - exact[i]);
    }
  }
  double of_mean = 0;
  double of_one = 0;
  double of_nearest = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double mean = sum[i] / kSteps;
    const double standard_error = std::sqrt(squares[i] / kSteps / kSteps);
    // Seeded: of 192 elements none is 5 standard errors off; 1e-6 for the draws' grid.
    CHECK(std::abs(mean) <= 5 * standard_error + 1e-6);
    of_mean += mean * mean;
    of_one += squares[i] / kSteps;
    of_nearest += (nearest[i] - exact[i]) * (nearest[i] - exact[i]);
  }
  CHECK(of_mean <= 1.5 * of_one / kSteps);  // as that of independent errors
  CHECK(of_mean <= 0.01 * of_nearest);      // which has no mean to tend to it
  CHECK(of_one <= 4 * of_nearest);          // twice of it, if where numbers fall were uniform
}

TEST_CASE("saved input: rounding at random needs draws, where anything is kept") {
  Bench bench;
  const Tensor x = bench.random({kTokens, 32});
  Pass pass = bench.pass({kTokens});
  CHECK_THROWS_AS(pass.push(x, kAtRandom, {SlotKind::kMlpUp, 32}), base::InternalError);
  CHECK(pass.slots() == 0);
  Pass forgetful = bench.pass({kTokens}, 2, Pass::Keep::kNothing);
  forgetful.push(x, kAtRandom, {SlotKind::kMlpUp, 32});
  CHECK(forgetful.slots() == 0);
  pass.push(bench.empty({0, 32}), kAtRandom, {SlotKind::kMlpUp, 32});  // of no tokens
  CHECK(pass.pop().size(0) == 0);
}

}  // namespace
}  // namespace longspan::nn
