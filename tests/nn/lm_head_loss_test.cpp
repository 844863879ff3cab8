#include "longspan/nn/lm_head_loss.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/base/error.h"
#include "tests/nn/layer_bench.h"
#include "tests/support/relative_distance.h"

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

/// Everything in one range.
LmHeadLoss whole_head(Case& c) { return {c.set, 0, MiniSequence::count(1)}; }

TEST_CASE("lm_head_loss: its gradients match finite differences, in place too") {
  Case c(7, 3);
  const LmHeadLoss head(c.set, 0, MiniSequence::count(GENERATE(1, 2, 5)));
  const Labels labels{3, kIgnoredLabel, 0, 6, 3};
  const double scale = 0.37;
  Pass pass = c.bench.pass({5});
  const Tensor x = c.bench.random({5, 3});
  const auto loss = [&] { return scale * naive_nll(x, c.set.weight(0), labels); };

  const Tensor dx = c.bench.empty({5, 3});
  const double nll = head.forward_backward(dx, x, labels, scale, pass);
  CHECK(nll == Approx(naive_nll(x, c.set.weight(0), labels)).epsilon(1e-12));
  CHECK(head.forward(x, labels, pass) == nll);
  CHECK(pass.slots() == 0);
  test::check_gradient("x", x, LayerBench::values(dx), loss);
  test::check_parameter_gradients(c.set, loss);

  head.forward_backward(x, x, labels, scale, pass);
  CHECK(LayerBench::values(x) == LayerBench::values(dx));
}

TEST_CASE("lm_head_loss: each row's own loss, in however many ranges") {
  Case c(11, 4);
  const LmHeadLoss head(c.set, 0, MiniSequence::count(GENERATE(1, 2, 6)));
  const Labels labels{3, kIgnoredLabel, 0, 10, kIgnoredLabel, 7};
  Pass pass = c.bench.pass({6});
  const Tensor x = c.bench.random({6, 4});
  std::vector<double> nll{-1.0};
  const double sum = head.forward(x, labels, nll, pass);
  REQUIRE(nll.size() == labels.size());
  for (std::size_t row = 0; row < labels.size(); ++row) {
    Labels one(labels.size(), kIgnoredLabel);
    one[row] = labels[row];
    CHECK(nll[row] == Approx(naive_nll(x, c.set.weight(0), one)).epsilon(1e-12).margin(1e-15));
  }
  CHECK(sum == head.forward(x, labels, pass));

  head.forward(x, Labels(6, kIgnoredLabel), nll, pass);
  CHECK(nll == std::vector<double>(6, 0.0));
}

/// dx and the weight's gradient of one call, which starts from zeros.
struct Gradients {
  double nll = 0;
  std::vector<double> dx, dw;
};

Gradients gradients_of(Case& c, const LmHeadLoss& head, const Tensor& x, const Labels& labels) {
  Pass pass = c.bench.pass({static_cast<std::int32_t>(labels.size())});
  c.bench.backend().zero(c.set.gradients());
  const Tensor dx = c.bench.random(x.shape());  // whatever was there must be overwritten
  const double nll = head.forward_backward(dx, x, labels, 0.1, pass);
  return {nll, LayerBench::values(dx), LayerBench::values(c.set.gradients())};
}

void check_close(const std::vector<double>& found, const std::vector<double>& expected) {
  double largest = 0.0;
  double difference = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(found[i] - expected[i]));
  }
  CHECK(difference <= 1e-13 * largest);
}

TEST_CASE("lm_head_loss: any number of ranges and any mask give the whole's loss and gradients") {
  constexpr Index kTokens = 41;
  Case c(9, 5);
  Labels labels = random_labels(kTokens, 9);
  SECTION("every label counts") {}
  SECTION("scattered labels") {
    for (std::size_t t = 0; t < kTokens; ++t) {
      if (t * 7 % 5 < 3) labels[t] = kIgnoredLabel;
    }
  }
  SECTION("a run without labels longer than most ranges, and at both ends") {
    std::fill(labels.begin(), labels.begin() + 3, kIgnoredLabel);
    std::fill(labels.begin() + 10, labels.begin() + 30, kIgnoredLabel);
    std::fill(labels.end() - 4, labels.end(), kIgnoredLabel);
  }
  SECTION("one label") { std::fill(labels.begin() + 1, labels.end(), kIgnoredLabel); }
  const Tensor x = c.bench.random({kTokens, 5});
  const Gradients whole = gradients_of(c, whole_head(c), x, labels);
  CHECK(whole.nll == Approx(naive_nll(x, c.set.weight(0), labels)).epsilon(1e-12));
  for (Index count = 1; count <= kTokens; ++count) {
    INFO(count << " ranges");
    const Gradients ranged =
        gradients_of(c, LmHeadLoss(c.set, 0, MiniSequence::count(count)), x, labels);
    CHECK(ranged.nll == Approx(whole.nll).epsilon(1e-14));
    check_close(ranged.dx, whole.dx);
    check_close(ranged.dw, whole.dw);
  }
  for (std::size_t i = 0; i < whole.dx.size(); ++i) {
    if (labels[i / 5] == kIgnoredLabel) CHECK(whole.dx[i] == 0.0);
  }
}

TEST_CASE("lm_head_loss: ranges bound the memory, and the mask does not change it") {
  constexpr Index kTokens = 4096;
  constexpr Index kVocab = 256;
  constexpr std::size_t kBudget = std::size_t{1} << 20U;
  Case c(kVocab, 2);
  Pass pass = c.bench.pass({kTokens});
  const Tensor x = c.bench.random({kTokens, 2});
  const Tensor dx = c.bench.random({kTokens, 2});
  Labels labels = random_labels(kTokens, kVocab);
  const backend::Ledger& ledger = c.bench.backend().ledger();
  const std::size_t before = ledger.live_total();
  const auto peak = [&] {
    c.bench.backend().reset_peaks();
    LmHeadLoss(c.set, 0, MiniSequence::budget(kBudget)).forward_backward(dx, x, labels, 1.0, pass);
    CHECK(ledger.live_total() == before);
    return ledger.peak_total() - before;
  };
  const std::size_t full = peak();
  const std::size_t per_token = kTokens * (sizeof(double) + 3 * sizeof(std::int32_t));
  CHECK(full <= kBudget + per_token + 4096);
  CHECK(full > kBudget / 2);
  for (std::size_t t = 0; t < labels.size(); ++t) {
    if (t % 3 != 0) labels[t] = kIgnoredLabel;
  }
  CHECK(peak() == full);
}

/// Relative error of the weight's gradient in bfloat16 against float64, in `ranges` ranges.
double bfloat16_error(Index ranges) {
  constexpr Index kTokens = 2048;
  constexpr Index kVocab = 64;
  constexpr Index kHidden = 32;
  Case c(kVocab, kHidden);
  ParameterSet narrow;
  narrow.declare("head", {kVocab, kHidden}, ParameterKind::kMatrix);
  narrow.allocate(c.bench.backend(), base::DType::kBFloat16);
  backend::Backend& backend = c.bench.backend();
  backend.copy(narrow.weight(0), c.set.weight(0));
  backend.copy(c.set.weight(0), narrow.weight(0));  // the same values in both
  const Tensor x =
      backend.allocate({kTokens, kHidden}, base::DType::kBFloat16, backend::MemoryTag::kWorkspace);
  backend.random_normal(x, {5, base::Purpose::kTest, 0, 0}, 1.0, 0);
  const Tensor exact_x = c.bench.empty({kTokens, kHidden});
  backend.copy(exact_x, x);
  const Labels labels = random_labels(kTokens, kVocab);
  const Gradients exact = gradients_of(c, whole_head(c), exact_x, labels);

  Pass pass(backend, base::DType::kBFloat16, {0, kTokens}, c.bench.ids(Labels(kTokens, 0)));
  LmHeadLoss(narrow, 0, MiniSequence::count(ranges)).forward_backward(x, x, labels, 0.1, pass);
  const Tensor wide = c.bench.empty({kVocab * kHidden});
  backend.copy(wide, narrow.gradients());
  return longspan::test::relative_distance(LayerBench::values(wide), exact.dw);
}

TEST_CASE("lm_head_loss: the error of a bfloat16 weight gradient does not grow with the ranges") {
  if (!LayerBench().backend().supports(base::DType::kBFloat16, nullptr)) {
    WARN("this processor has no bfloat16");
    return;
  }
  const double whole = bfloat16_error(1);
  const double ranged = bfloat16_error(128);
  INFO("relative error " << whole << " in one range, " << ranged << " in 128");
  CHECK(whole < 0.01);
  CHECK(ranged <= 1.01 * whole);
}

TEST_CASE("lm_head_loss: no label at all gives zero gradients; a missing label is refused") {
  Case c(4, 3);
  const LmHeadLoss head = whole_head(c);
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
