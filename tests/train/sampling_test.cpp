#include "train/sampling.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "longspan/base/error.h"
#include "longspan/base/random.h"

namespace longspan::train {
namespace {

using Catch::Matchers::Contains;
using data::TokenId;

std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)) + 3.0F);
  return logits;
}

/// How often each token comes, of a thousand evenly spaced draws.
std::map<TokenId, int> counts_of(const std::vector<float>& logits, const SamplingOptions& options) {
  std::map<TokenId, int> counts;
  for (int i = 0; i < 1000; ++i) ++counts[sample_token(logits, options, (i + 0.5) / 1000)];
  return counts;
}

/// All tokens sorted, the nucleus from the front: nothing is left out beforehand.
TokenId naive_sample(const std::vector<float>& logits, double temperature, double top_p,
                     double draw) {
  const double best = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights;
  for (const float logit : logits) {
    weights.push_back(std::exp((static_cast<double>(logit) - best) / temperature));
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto weight = [&](TokenId id) { return weights[static_cast<std::size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](TokenId a, TokenId b) { return weight(a) > weight(b); });
  double kept = 0;
  std::size_t count = 0;
  while (count < order.size() && (count == 0 || kept < top_p * total)) {
    kept += weight(order[count++]);
  }
  double target = draw * kept;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    target -= weight(order[i]);
    if (target < 0) return order[i];
  }
  return order[count - 1];
}

TEST_CASE("the likeliest token, the first of equal ones, at temperature 0") {
  SamplingOptions options{.temperature = 0};
  CHECK(sample_token({1.0F, 4.0F, -2.0F, 4.0F}, options, 0.99) == 1);
}

TEST_CASE("tokens come as often as they are likely, within the nucleus and the likeliest k") {
  const auto logits = logits_of({0.05, 0.5, 0.15, 0.3});
  using Counts = std::map<TokenId, int>;
  CHECK(counts_of(logits, {.temperature = 1, .top_p = 1}) ==
        Counts{{0, 50}, {1, 500}, {2, 150}, {3, 300}});
  CHECK(counts_of(logits, {.temperature = 1, .top_p = 0.79}) == Counts{{1, 625}, {3, 375}});
  CHECK(counts_of(logits, {.temperature = 1, .top_p = 0.5 - 1e-6}) == Counts{{1, 1000}});
  CHECK(counts_of(logits, {.temperature = 1, .top_p = 0}) == Counts{{1, 1000}});
  CHECK(counts_of(logits, {.temperature = 1, .top_p = 1, .top_k = 2}) ==
        Counts{{1, 625}, {3, 375}});
  CHECK(counts_of(logits, {.temperature = 1, .top_p = 0.6, .top_k = 2}) == Counts{{1, 1000}});
  CHECK(counts_of(logits, {.temperature = 1, .top_p = 1, .top_k = 9}).size() == 4);
}

TEST_CASE("what the nucleus cannot hold may be left out before sorting") {
  const base::RandomStream random(3, base::Purpose::kTest, 0, 0);
  for (const double top_p : {0.01, 0.3, 0.9, 0.95, 0.999, 1.0}) {
    for (const double temperature : {0.05, 0.8, 5.0}) {
      std::vector<float> logits;
      for (std::uint64_t i = 0; i < 300; ++i) {
        logits.push_back(static_cast<float>(3 * random.normal(i)));
      }
      for (std::uint64_t i = 0; i < 200; ++i) {
        const double draw = random.uniform(1000 + i);
        CHECK(sample_token(logits, {.temperature = temperature, .top_p = top_p}, draw) ==
              naive_sample(logits, temperature, top_p, draw));
      }
    }
  }
}

TEST_CASE("logits that are not finite are refused, at temperature 0 too") {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    for (const double temperature : {0.0, 1.0}) {
      CHECK_THROWS_WITH(sample_token({1.0F, bad}, {.temperature = temperature}, 0.5),
                        Contains("not finite"));
    }
  }
}

TEST_CASE("a repeated token is penalised once, whatever the sign of its logit") {
  std::vector<float> logits{2.0F, -2.0F, 3.0F, -3.0F};
  penalise_repetition(logits, {0, 1, 0, 0, 7}, 2.0);
  CHECK(logits == std::vector<float>{1.0F, -4.0F, 3.0F, -3.0F});
  penalise_repetition(logits, {2, 3}, 1.0);
  CHECK(logits == std::vector<float>{1.0F, -4.0F, 3.0F, -3.0F});
}

}  // namespace
}  // namespace longspan::train
