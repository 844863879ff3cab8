#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index rows, vocab, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3}, Case{3, 5000, 1},
                  Case{300, 67, 0});
}

/// Every third row ignored.
Array make_labels(Index rows, Index vocab) {
  Array labels(DType::kInt32, {rows});
  labels.random_ids(1, vocab);
  for (Index t = 2; t < rows; t += 3) labels.set(t, kIgnoredLabel);
  return labels;
}

struct Exact {
  std::vector<double> nll, gradient;
};

Exact exact(const Array& stored, const Array& labels, double scale, double soft_cap = 0.0) {
  Exact result;
  // The logits as the loss sees them, in float64.
  Array logits(DType::kFloat64, {std::max<Index>(1, stored.elements())});
  for (Index i = 0; i < stored.elements(); ++i) {
    const double z = stored.get(i);
    logits.set(i, soft_cap > 0.0 ? soft_cap * std::tanh(z / soft_cap) : z);
  }
  const Index vocab = labels.elements() == 0 ? 0 : stored.elements() / labels.elements();
  for (Index t = 0; t < labels.elements(); ++t) {
    const auto label = static_cast<Index>(labels.get(t));
    const bool ignored = label == kIgnoredLabel;
    double largest = -INFINITY;
    for (Index i = 0; i < vocab; ++i) largest = std::max(largest, logits.get(t * vocab + i));
    double sum = 0.0;
    for (Index i = 0; i < vocab; ++i) sum += std::exp(logits.get(t * vocab + i) - largest);
    result.nll.push_back(ignored ? 0.0 : largest + std::log(sum) - logits.get(t * vocab + label));
    for (Index i = 0; i < vocab; ++i) {
      const double probability = std::exp(logits.get(t * vocab + i) - largest) / sum;
      const double tangent = soft_cap > 0.0 ? logits.get(t * vocab + i) / soft_cap : 0.0;
      const double slope = scale * (1.0 - tangent * tangent);
      result.gradient.push_back(ignored ? 0.0 : slope * (probability - (i == label ? 1.0 : 0.0)));
    }
  }
  return result;
}

TEST_CASE("cross_entropy of capped logits agrees with double and with finite differences") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  const float cap = GENERATE(1.5F, 30.0F);
  Array logits(dtype, {size.rows, size.vocab}, size.padding);
  logits.random(2, 4.0);
  const Array labels = make_labels(size.rows, size.vocab);
  const Exact want = exact(logits, labels, 0.5, cap);
  Array nll(wide(dtype), {size.rows});
  Array gradient(dtype, {size.rows, size.vocab});
  processor().cross_entropy(nll, gradient, logits, labels, {.scale = 0.5, .soft_cap = cap});
  // 1 - tanh^2 loses what the tangent had rounded.
  const double wider = 64.0 * unit_roundoff(wide(dtype));
  require_close(nll, want.nll, 2.0 * wider);
  require_close(gradient, want.gradient, unit_roundoff(dtype) + 16.0 * wider);
  if (dtype != DType::kFloat64 || size.rows != 7) return;
  const auto slope = finite_difference(logits, [&] {
    processor().cross_entropy(nll, Tensor(), logits, labels, {.scale = 0.5, .soft_cap = cap});
    double sum = 0.0;
    for (Index t = 0; t < size.rows; ++t) sum += 0.5 * nll.get(t);
    return sum;
  });
  require_close(gradient, slope, kDifferenceTolerance);
}

TEST_CASE("cross_entropy agrees with double, beside the logits and in their place") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array logits(dtype, {size.rows, size.vocab}, size.padding);
  logits.random(2, 4.0);
  const Array labels = make_labels(size.rows, size.vocab);
  const Exact want = exact(logits, labels, 0.5);
  Array nll(wide(dtype), {size.rows});
  // Rounded: logit - largest, the exponential, the product; each relative to what is rounded.
  const double loss_tolerance = 16.0 * unit_roundoff(wide(dtype));
  const double gradient_tolerance = unit_roundoff(dtype) + 64.0 * unit_roundoff(wide(dtype));

  processor().cross_entropy(nll, Tensor(), logits, labels, {.scale = 0.5});
  require_close(nll, want.nll, loss_tolerance);

  Array gradient(dtype, {size.rows, size.vocab}, size.padding == 0 ? 2 : 0);
  nll.fill(-1.0);
  processor().cross_entropy(nll, gradient, logits, labels, {.scale = 0.5});
  require_close(nll, want.nll, loss_tolerance);
  require_close(gradient, want.gradient, gradient_tolerance);

  Array nll_in_place(wide(dtype), {size.rows});
  processor().cross_entropy(nll_in_place, logits, logits, labels, {.scale = 0.5});
  CHECK(nll_in_place.same_bits(nll));
  CHECK(logits.same_bits(gradient));
  CHECK(logits.gaps_untouched());
}

TEST_CASE("cross_entropy writes a gradient of the other narrow dtype") {
  const DType from = GENERATE(DType::kFloat32, DType::kBFloat16);
  const DType to = from == DType::kFloat32 ? DType::kBFloat16 : DType::kFloat32;
  Array logits(from, {9, 77}, 1);
  logits.random(2, 4.0);
  const Array labels = make_labels(9, 77);
  Array nll(DType::kFloat32, {9});
  Array gradient(to, {9, 77}, 2);
  processor().cross_entropy(nll, gradient, logits, labels, {.scale = 3.0});
  const Exact want = exact(logits, labels, 3.0);
  require_close(nll, want.nll, 16.0 * unit_roundoff(DType::kFloat32));
  require_close(gradient, want.gradient, unit_roundoff(to) + 64.0 * unit_roundoff(DType::kFloat32));
}

TEST_CASE("cross_entropy agrees with finite differences") {
  Array logits(DType::kFloat64, {4, 6}, 1);
  logits.random(2);
  const Array labels = make_labels(4, 6);
  Array nll(DType::kFloat64, {4});
  Array gradient(DType::kFloat64, {4, 6});
  processor().cross_entropy(nll, gradient, logits, labels, {.scale = 0.25});
  const auto slope = finite_difference(logits, [&] {
    processor().cross_entropy(nll, Tensor(), logits, labels, {.scale = 0.25});
    return 0.25 * (nll.get(0) + nll.get(1) + nll.get(2) + nll.get(3));
  });
  require_close(gradient, slope, kDifferenceTolerance);
}

TEST_CASE("cross_entropy survives logits of any size") {
  const DType dtype = every_float();
  Array logits(dtype, {4, 3});
  const std::vector<double> values = {3e38, -3e38, 0.0,   -3e38,     -3e38, -3e38,
                                      1e30, 1e30,  -1e30, -INFINITY, 2.0,   -INFINITY};
  for (Index i = 0; i < 12; ++i) logits.set(i, values[static_cast<std::size_t>(i)]);
  Array labels(DType::kInt32, {4});
  for (Index t = 0; t < 4; ++t) labels.set(t, t % 2);
  Array nll(wide(dtype), {4});
  Array gradient(dtype, {4, 3});
  processor().cross_entropy(nll, gradient, logits, labels, {.scale = 1.0});
  const double tolerance = 2.0 * unit_roundoff(dtype);
  require_close(nll, {0.0, std::log(3.0), std::log(2.0), 0.0}, 2.0 * unit_roundoff(wide(dtype)));
  const double third = 1.0 / 3.0;
  require_close(gradient, {0.0, 0.0, 0.0, third, third - 1.0, third, -0.5, 0.5, 0.0, 0.0, 0.0, 0.0},
                tolerance);
}

TEST_CASE("a NaN logit makes its row's loss NaN, and no other's") {
  const DType dtype = every_float();
  const Index at = GENERATE(0, 15, 16, 20);
  Array logits(dtype, {2, 21});
  logits.random(2);
  logits.set(21 + at, NAN);
  Array labels(DType::kInt32, {2});
  labels.fill(3);
  Array nll(wide(dtype), {2});
  Array gradient(dtype, {2, 21});
  processor().cross_entropy(nll, gradient, logits, labels, {.scale = 1.0});
  CHECK(std::isfinite(nll.get(0)));
  CHECK(std::isnan(nll.get(1)));
  CHECK(std::isnan(gradient.get(21 + at)));
}

TEST_CASE("cross_entropy refuses labels outside the vocabulary and wrong tensors") {
  const Array logits(DType::kFloat32, {3, 4});
  const Array nll(DType::kFloat32, {3});
  Array labels(DType::kInt32, {3});
  labels.fill(0);
  const Index bad = GENERATE(-1, 4, -99, 1000000);
  labels.set(1, static_cast<double>(bad));
  CHECK_THROWS_WITH(processor().cross_entropy(nll, Tensor(), logits, labels, {.scale = 1.0}),
                    Catch::Contains("label of row 1 is " + std::to_string(bad)));
  labels.set(1, 3);
  CHECK_THROWS_AS(processor().cross_entropy(Array(DType::kBFloat16, {3}), Tensor(), logits, labels,
                                            {.scale = 1.0}),
                  base::InternalError);
  CHECK_THROWS_AS(processor().cross_entropy(nll, Array(DType::kFloat64, {3, 4}), logits, labels,
                                            {.scale = 1.0}),
                  base::InternalError);
  CHECK_THROWS_AS(processor().cross_entropy(nll, Array(DType::kFloat32, {3, 5}), logits, labels,
                                            {.scale = 1.0}),
                  base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::testing
