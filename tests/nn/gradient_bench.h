#pragma once

#include <catch2/catch.hpp>
#include <functional>
#include <vector>

#include "longspan/nn/linear.h"
#include "tests/nn/layer_bench.h"

// What tests of ways to form weights' gradients share.
namespace longspan::nn::test {

/// dy^T x of columns [begin, end) of dy, its rows times `weights` if there are any; row by row.
inline std::vector<double> product(const backend::Tensor& dy, const backend::Tensor& x,
                                   backend::Index begin, backend::Index end,
                                   const std::vector<double>& weights = {}) {
  std::vector<double> out;
  for (backend::Index o = begin; o < end; ++o) {
    for (backend::Index i = 0; i < x.size(1); ++i) {
      double sum = 0;
      for (backend::Index t = 0; t < x.size(0); ++t) {
        const double weight = weights.empty() ? 1.0 : weights[static_cast<std::size_t>(t)];
        sum += weight * dy.data<double>()[t * dy.size(1) + o] * x.data<double>()[t * x.size(1) + i];
      }
      out.push_back(sum);
    }
  }
  return out;
}

inline void check_near(const std::vector<double>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i] == Approx(expected[i]).epsilon(1e-12).margin(1e-12));
  }
}

/// Gradients of adapters of "q" and "k" beside q, k and v, of 7 tokens of 12 inputs.
struct AdapterGradients {
  std::vector<double> a_of_q, a_of_k, b_of_q, b_of_k;
};
/// With these methods of the adapters' As, and what `prepare` does to the adapters and the pass;
/// always of the same numbers.
inline AdapterGradients adapter_gradients(
    const VeloraOptions* velora, const SamplingOptions* sampling,
    const std::function<void(LayerBench&, ParameterSet&, Pass&)>& prepare) {
  LayerBench bench;
  ParameterSet base;
  ParameterSet low_rank;
  const Adapters adapters{
      &low_rank, {.rank = 2, .scale = 1.5, .targets = {{"q", "k"}}}, velora, sampling};
  const Linear linear(base, {{"q", 4}, {"k", 2}, {"v", 3}}, 12,
                      {.methods = {.adapters = &adapters}});
  bench.fill(base, {.trains = false});
  bench.fill(low_rank);
  Pass pass = bench.pass({7});
  prepare(bench, low_rank, pass);
  const backend::Tensor x = bench.random({7, 12});
  linear.backward_weight(bench.random({7, 9}), x, pass);
  const auto of = [&](int number) { return LayerBench::values(low_rank.gradient(number)); };
  return {of(0), of(1), of(2), of(3)};
}

}  // namespace longspan::nn::test
