#include "longspan/nn/row_sampling.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "longspan/base/error.h"
#include "longspan/nn/linear.h"
#include "longspan/nn/weight_gradient.h"
#include "tests/nn/gradient_bench.h"

namespace longspan::nn {
namespace {

using backend::DrawnRows;
using backend::Index;
using backend::Tensor;
using test::check_near;
using test::LayerBench;
using test::product;

constexpr Index kTokens = 7;
constexpr Index kInputs = 12;
constexpr double kAll = std::numeric_limits<double>::infinity();
using Numbers = std::vector<std::int32_t>;
const Numbers kNumbers{90, 3, 11, 12, 700, 5, 1};

/// Three matrices side by side, of which some have sampled gradients.
struct Bench : LayerBench {
  explicit Bench(const SamplingOptions& options, bool has_bias = false, bool inputs_first = false)
      : sampling(options),
        linear(set, parts_of(inputs_first), kInputs,
               {.has_bias = has_bias,
                .inputs_first = inputs_first,
                .methods = {.sampling = &sampling}}) {
    fill(set);
  }

  static std::vector<Linear::Part> parts_of(bool inputs_first) {
    if (inputs_first) return {{"v", 9}};
    return {{"q", 4}, {"k", 2}, {"v", 3}};
  }

  void set_factors(double factor) {
    const Tensor factors = set.row_sampling().factors();
    backend().fill(factors, factor);
    set.row_sampling().take();
  }

  Pass drawing(const Numbers& numbers = kNumbers) {
    Pass pass = this->pass({static_cast<std::int32_t>(numbers.size())});
    pass.set_draws({.seed = 9, .step = 3, .numbers = ids(numbers)});
    return pass;
  }
  /// Gradients of a step of these rows alone.
  void backward(const Tensor& dy, const Tensor& x, const Numbers& numbers = kNumbers) {
    set.start_gradients();
    Pass pass = drawing(numbers);
    linear.backward_weight(dy, x, pass);
  }
  std::vector<double> gradient(int number) { return values(set.gradient(number)); }

  SamplingOptions sampling;
  ParameterSet set;
  Linear linear;
};

SamplingOptions options_of(double ratio, const std::vector<std::string>& modules) {
  return {.ratio = ratio, .modules = {modules}};
}

double size_of_row(const Tensor& rows, Index row, Index begin, Index end) {
  double squares = 0;
  for (Index i = begin; i < end; ++i) {
    const double value = rows.data<double>()[row * rows.size(1) + i];
    squares += value * value;
  }
  return std::sqrt(squares);
}

TEST_CASE("sampling: with ratio 1 the gradient is exact, and others' always are") {
  Bench bench(options_of(GENERATE(1.0, 0.3), {"v", "q"}));
  const Tensor x = bench.random({kTokens, kInputs});
  const Tensor dy = bench.random({kTokens, 9});
  const auto alone = comm::make_single_communicator();
  for (int step = 0; step < 2; ++step) {
    const bool is_exact = bench.sampling.ratio == 1.0 || step == 0;
    bench.backward(dy, x);
    if (is_exact) {
      check_near(bench.gradient(0), product(dy, x, 0, 4));
      check_near(bench.gradient(2), product(dy, x, 6, 9));
    } else {
      CHECK(std::abs(bench.gradient(0)[5] - product(dy, x, 0, 4)[5]) > 1e-6);
    }
    check_near(bench.gradient(1), product(dy, x, 4, 6));
    bench.set.row_sampling().settle(*alone);
  }
}

TEST_CASE("sampling: over all draws the mean is dW, and the variance its formula") {
  Bench bench(options_of(0.5, {"q", "k", "v"}));
  REQUIRE(bench.set.row_sampling().count() == 1);
  const Tensor x = bench.random({kTokens, kInputs});
  const Tensor dy = bench.random({kTokens, 9});
  // The third token has no gradient and the fourth no input; the first is larger than all.
  for (Index i = 0; i < 9; ++i) dy.data<double>()[2 * 9 + i] = 0.0;
  for (Index i = 0; i < kInputs; ++i) x.data<double>()[3 * kInputs + i] = 0.0;
  for (Index i = 0; i < 9; ++i) dy.data<double>()[i] *= 50.0;
  constexpr double kFactor = 0.04;
  bench.set_factors(kFactor);

  // For each token a number with which it is drawn, and one with which it is not.
  const base::RandomStream stream(9, base::Purpose::kRowSampling, 3, 0);
  std::vector<double> probability;
  std::vector<Index> open;
  Numbers drawn(kTokens);
  Numbers left(kTokens);
  for (Index t = 0; t < kTokens; ++t) {
    const double size = size_of_row(x, t, 0, kInputs) * size_of_row(dy, t, 0, 9);
    const double p = std::min(1.0, kFactor * size);
    probability.push_back(p);
    if (p > 0 && p < 1) open.push_back(t);
    for (std::int32_t number = 0; number < 1000; ++number) {
      const bool is_in = stream.uniform(static_cast<std::uint64_t>(number)) < p;
      (is_in ? drawn : left)[static_cast<std::size_t>(t)] = number;
    }
  }
  REQUIRE(open.size() == 4);
  REQUIRE(probability[0] == 1.0);

  const std::vector<double> exact = product(dy, x, 0, 9);
  std::vector<double> mean(exact.size());
  double variance = 0;
  for (unsigned subset = 0; subset < 16; ++subset) {
    Numbers numbers = left;
    double chance = 1;
    for (std::size_t i = 0; i < open.size(); ++i) {
      const auto t = static_cast<std::size_t>(open[i]);
      const bool is_in = ((subset >> i) & 1U) != 0;
      if (is_in) numbers[t] = drawn[t];
      chance *= is_in ? probability[t] : 1 - probability[t];
    }
    bench.backward(dy, x, numbers);
    const std::vector<double> found = LayerBench::values(bench.set.joined_gradient(0, 3));
    for (std::size_t i = 0; i < exact.size(); ++i) {
      mean[i] += chance * found[i];
      variance += chance * (found[i] - exact[i]) * (found[i] - exact[i]);
    }
  }
  check_near(mean, exact);
  double expected = 0;
  for (const Index t : open) {
    const double size = size_of_row(x, t, 0, kInputs) * size_of_row(dy, t, 0, 9);
    expected += (1 / probability[static_cast<std::size_t>(t)] - 1) * size * size;
  }
  CHECK(variance == Approx(expected).epsilon(1e-10));
}

TEST_CASE("sampling: the draws go with the tokens' numbers, in any portions and ranges") {
  Bench bench(options_of(0.5, {"q", "v"}));
  const Tensor x = bench.random({kTokens, kInputs});
  const Tensor dy = bench.random({kTokens, 9});
  bench.set_factors(0.07);
  bench.backward(dy, x);
  const std::vector<double> whole = LayerBench::values(bench.set.gradients());

  bench.set.start_gradients();
  Pass pass = bench.drawing();
  for (const auto& [begin, end] : {std::pair<Index, Index>{0, 2}, {2, 3}, {3, 3}, {3, kTokens}}) {
    const TokenRange range(pass, begin);
    bench.linear.backward_weight(dy.rows(begin, end), x.rows(begin, end), pass);
  }
  check_near(LayerBench::values(bench.set.gradients()), whole);

  SamplingOptions small = options_of(0.5, {"q", "v"});
  small.range_bytes = 1;  // a row at a time
  Bench rows(small);
  rows.set_factors(0.07);
  rows.backward(dy, x);
  check_near(LayerBench::values(rows.set.gradients()), whole);
  // Groups draw for themselves.
  CHECK(rows.set.row_sampling().count() == 2);

  bench.set_factors(0.0);
  bench.backward(dy, x);
  CHECK(bench.gradient(0) == std::vector<double>(4 * kInputs, 0.0));
}

TEST_CASE("sampling: outputs, gradients of inputs and biases are the exact layer's bits") {
  Bench plain(options_of(1.0, {}), true);
  Bench bench(options_of(0.5, {"q", "v"}), true);
  bench.set_factors(0.05);
  const Tensor x = plain.random({kTokens, kInputs});
  const Tensor dy = plain.random({kTokens, 9});
  std::vector<std::vector<double>> found;
  for (Bench* one : {&plain, &bench}) {
    LayerBench::assign(one->set.weights(), LayerBench::values(plain.set.weights()));
    one->set.start_gradients();
    Pass pass = one->drawing();
    const Tensor out = one->empty({kTokens, 9});
    const Tensor dx = one->empty({kTokens, kInputs});
    one->linear.forward(out, x, pass);
    one->linear.backward(dx, dy, x, pass);
    for (const Tensor& tensor : {out, dx, one->set.joined_gradient(3, 3), one->set.gradient(1)}) {
      found.push_back(LayerBench::values(tensor));
    }
    found.push_back(one->gradient(0));
  }
  for (std::size_t i = 0; i < 4; ++i) CHECK(found[i] == found[i + 5]);
  CHECK(found[4] != found[9]);
}

TEST_CASE("sampling: of a matrix that is stored inputs first") {
  Bench bench(options_of(0.5, {"v"}), false, /*inputs_first=*/true);
  Bench other(options_of(0.5, {"q", "k", "v"}));
  const Tensor x = bench.random({kTokens, kInputs});
  const Tensor dy = bench.random({kTokens, 9});
  for (Bench* one : {&bench, &other}) {
    one->set_factors(0.07);
    one->backward(dy, x);
  }
  const std::vector<double> expected = LayerBench::values(other.set.joined_gradient(0, 3));
  const std::vector<double> found = bench.gradient(0);
  for (Index o = 0; o < 9; ++o) {
    for (Index i = 0; i < kInputs; ++i) {
      CHECK(found[static_cast<std::size_t>(i * 9 + o)] ==
            Approx(expected[static_cast<std::size_t>(o * kInputs + i)]).margin(1e-12));
    }
  }
}

TEST_CASE("sampling: of adapters A's gradient is sampled, and B's is exact") {
  const SamplingOptions sampling = options_of(0.5, {"k"});
  const auto with = [](const SamplingOptions* options) {
    return test::adapter_gradients(
        nullptr, options, [&](LayerBench& bench, ParameterSet& low_rank, Pass& pass) {
          pass.set_draws({.seed = 9, .step = 3, .numbers = bench.ids(kNumbers)});
          if (options == nullptr) return;
          bench.backend().fill(low_rank.row_sampling().factors(), 0.01);
          low_rank.row_sampling().take();
        });
  };
  const test::AdapterGradients exact = with(nullptr);
  const test::AdapterGradients sampled = with(&sampling);
  CHECK(sampled.b_of_q == exact.b_of_q);
  CHECK(sampled.b_of_k == exact.b_of_k);
  CHECK(sampled.a_of_q == exact.a_of_q);
  CHECK(sampled.a_of_k != exact.a_of_k);
}

TEST_CASE("sampling: the factor comes to draw the ratio asked for, large tokens or not") {
  const double largest = GENERATE(1.0, 100.0, 1e6);
  const double ratio = GENERATE(0.05, 0.3, 0.9);
  std::vector<double> sizes;
  for (int t = 0; t < 1000; ++t) sizes.push_back(0.1 + std::fmod(t * 0.618, 1.0));
  for (int t = 0; t < 20; ++t) sizes.push_back(largest * (1 + t));
  const auto sums_of = [&](double factor) {
    DrawnRows sums;
    for (const double size : sizes) {
      const bool is_certain = factor * size >= 1;
      sums.tokens += 1;
      sums.sizes += size;
      (is_certain ? sums.certain : sums.rest) += is_certain ? 1 : size;
    }
    return sums;
  };
  double factor = kAll;
  for (int step = 0; step < 12; ++step) factor = RowSampling::next(factor, sums_of(factor), ratio);
  const DrawnRows sums = sums_of(factor);
  CHECK(sums.certain + factor * sums.rest == Approx(ratio * 1020).epsilon(1e-9));

  CHECK(RowSampling::next(0.5, DrawnRows(), ratio) == 0.5);
  CHECK(RowSampling::next(0.5, sums, 1.0) == kAll);
  DrawnRows bad = sums;
  bad.sizes = std::nan("");
  CHECK(RowSampling::next(0.5, bad, ratio) == 0.5);
}

TEST_CASE("sampling: what does not go together is refused") {
  Bench bench(options_of(0.5, {"v"}));
  Pass pass = bench.pass({kTokens});
  const Tensor x = bench.random({kTokens, kInputs});
  const Tensor dy = bench.random({kTokens, 9});
  CHECK_THROWS_AS(bench.linear.backward_weight(dy, x, pass), base::InternalError);
  const Tensor out = bench.empty({kTokens, 9});
  CHECK_NOTHROW(bench.linear.forward(out, x, pass));  // draws nothing

  CHECK_THROWS_AS(Bench(options_of(0.0, {"v"})), base::InternalError);
  CHECK_THROWS_AS(Bench(options_of(1.5, {"v"})), base::InternalError);
  ParameterSet set;
  const VeloraOptions velora{.groups = 3, .modules = {{"q"}}};
  const SamplingOptions sampling = options_of(0.5, {"q"});
  CHECK_THROWS_AS(
      Linear(set, {{"q", 4}}, kInputs, {.methods = {.velora = &velora, .sampling = &sampling}}),
      base::InternalError);
}

}  // namespace
}  // namespace longspan::nn
