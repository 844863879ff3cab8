#include "longspan/nn/lm_head_loss.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/base/error.h"
#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Index;
using backend::kIgnoredLabel;
using backend::Tensor;
using test::LayerBench;
using Labels = std::vector<std::int32_t>;

/// Negative log-likelihoods from the whole logits, on the host.
double naive_nll(const Tensor& x, const Tensor& weight, const Labels& labels) {
  const Index hidden = x.size(1);
  double total = 0.0;
  for (std::size_t t = 0; t < labels.size(); ++t) {
    if (labels[t] == kIgnoredLabel) continue;
    double partition = 0.0;
    double chosen = 0.0;
    for (Index v = 0; v < weight.size(0); ++v) {
      double logit = 0.0;
      for (Index h = 0; h < hidden; ++h) {
        logit += x.data<double>()[static_cast<Index>(t) * hidden + h] *
                 weight.data<double>()[v * hidden + h];
      }
      partition += std::exp(logit);
      if (v == labels[t]) chosen = logit;
    }
    total += std::log(partition) - chosen;
  }
  return total;
}

struct Case {
  LayerBench bench;
  ParameterSet set;

  Case(Index vocab, Index hidden) {
    set.declare("head", {vocab, hidden}, ParameterKind::kMatrix);
    bench.fill(set);
  }
};

Labels random_labels(std::size_t count, std::uint64_t vocab) {
  const base::RandomStream stream(3, base::Purpose::kTest, 1, 0);
  Labels labels;
  for (std::size_t i = 0; i < count; ++i) {
    labels.push_back(static_cast<std::int32_t>(stream.bits(i) % vocab));
  }
  return labels;
}

TEST_CASE("lm_head_loss: its gradients match finite differences, in place too") {
  Case c(7, 3);
  const LmHeadLoss head(c.set, 0);
  const Labels labels{3, kIgnoredLabel, 0, 6, 3};
  const double scale = 0.37;
  Pass pass = c.bench.pass({5});
  const Tensor x = c.bench.random({5, 3});
  const auto loss = [&] { return scale * naive_nll(x, c.set.at(0).weight, labels); };

  const Tensor dx = c.bench.empty({5, 3});
  const double nll = head.forward_backward(dx, x, labels, scale, pass);
  CHECK(nll == Approx(naive_nll(x, c.set.at(0).weight, labels)).epsilon(1e-12));
  CHECK(head.forward(x, labels, pass) == nll);
  CHECK(pass.slots() == 0);
  test::check_gradient("x", x, LayerBench::values(dx), loss);
  test::check_parameter_gradients(c.set, loss);

  head.forward_backward(x, x, labels, scale, pass);
  CHECK(LayerBench::values(x) == LayerBench::values(dx));
}

TEST_CASE("lm_head_loss: ranges change nothing, and a range without labels gives no gradient") {
  constexpr Index kTokens = 1500;  // ranges of 512 rows at most: three of 500, rounded up to 512
  Case c(5, 3);
  const LmHeadLoss whole(c.set, 0);
  const LmHeadLoss ranged(c.set, 0, /*range_bytes=*/1);
  Labels labels = random_labels(kTokens, 5);
  for (std::size_t t = 300; t < 1100; ++t) labels[t] = kIgnoredLabel;  // all of the second range
  Pass pass = c.bench.pass({kTokens});
  const Tensor x = c.bench.random({kTokens, 3});
  const Tensor dx = c.bench.random({kTokens, 3});
  const Tensor dx_ranged = c.bench.random({kTokens, 3});

  const double nll = whole.forward_backward(dx, x, labels, 0.1, pass);
  const std::vector<double> dw = LayerBench::values(c.set.gradients());
  c.bench.backend().zero(c.set.gradients());
  const double nll_ranged = ranged.forward_backward(dx_ranged, x, labels, 0.1, pass);
  const std::vector<double> dw_ranged = LayerBench::values(c.set.gradients());

  CHECK(nll == Approx(naive_nll(x, c.set.at(0).weight, labels)).epsilon(1e-12));
  CHECK(nll_ranged == Approx(nll).epsilon(1e-13));
  for (std::size_t i = 0; i < dw.size(); ++i) CHECK(dw_ranged[i] == Approx(dw[i]).epsilon(1e-10));
  for (Index i = 0; i < dx.elements(); ++i) {
    const bool is_masked = i / 3 >= 300 && i / 3 < 1100;
    const double value = dx_ranged.data<double>()[i];
    if (is_masked) CHECK(value == 0.0);
    if (std::abs(value - dx.data<double>()[i]) > 1e-14) FAIL("dx differs at element " << i);
  }
}

TEST_CASE("lm_head_loss: ranges bound the memory of the logits") {
  constexpr Index kTokens = 4096;
  constexpr Index kVocab = 256;
  Case c(kVocab, 2);
  Pass pass = c.bench.pass({kTokens});
  const Tensor x = c.bench.random({kTokens, 2});
  const Labels labels = random_labels(kTokens, kVocab);
  const backend::Ledger& ledger = c.bench.backend().ledger();
  const std::size_t before = ledger.live_total();
  LmHeadLoss(c.set, 0, /*range_bytes=*/1).forward_backward(x, x, labels, 1.0, pass);
  const std::size_t range = LmHeadLoss::kMinimumRows * kVocab * sizeof(double);
  const std::size_t per_token = kTokens * (sizeof(double) + sizeof(std::int32_t));
  CHECK(ledger.peak_total() <= before + range + per_token + 4096);
  CHECK(ledger.live_total() == before);
}

TEST_CASE("lm_head_loss: no label at all gives zero gradients; a missing label is refused") {
  Case c(4, 3);
  const LmHeadLoss head(c.set, 0);
  Pass pass = c.bench.pass({3});
  const Tensor x = c.bench.random({3, 3});
  const Tensor dx = c.bench.random({3, 3});
  const Labels none(3, kIgnoredLabel);
  CHECK(head.forward_backward(dx, x, none, 1.0, pass) == 0.0);
  CHECK(LayerBench::values(dx) == std::vector<double>(9, 0.0));
  CHECK(c.bench.backend().sum_of_squares(c.set.gradients()) == 0.0);
  CHECK_THROWS_AS(head.forward(x, Labels(2, 0), pass), base::InternalError);
}

}  // namespace
}  // namespace longspan::nn
