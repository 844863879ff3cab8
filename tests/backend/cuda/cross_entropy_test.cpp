#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index rows, vocab, padding;
};

/// Every third row ignored.
Array make_labels(Index rows, Index vocab) {
  Array labels(DType::kInt32, {rows});
  labels.random_ids(1, vocab);
  for (Index t = 2; t < rows; t += 3) labels.set(t, kIgnoredLabel);
  return labels;
}

/// As require_close, but NaN and infinity where they are expected.
void require_alike(const Array& found, const Array& expected, double tolerance) {
  for (Index i = 0; i < expected.elements(); ++i) {
    const double want = expected.get(i);
    const double got = found.get(i);
    if (std::isfinite(want) ? !(std::abs(got - want) <= tolerance * (1.0 + std::abs(want)))
                            : !(got == want || (std::isnan(got) && std::isnan(want)))) {
      FAIL("element " << i << " is " << got << "; expected " << want << " within " << tolerance);
    }
  }
  REQUIRE(found.gaps_untouched());
}

// Exponentials and the logarithm are those of two libraries, sums of two orders: some roundings of
// float32 (float64), and one of the gradient's dtype.
double loss_tolerance(DType dtype) { return 32.0 * unit_roundoff(wide(dtype)); }
double gradient_tolerance(DType dtype) {
  return 2.0 * unit_roundoff(dtype) + 64.0 * unit_roundoff(wide(dtype));
}

TEST_CASE("cuda: cross_entropy does what the cpu's does, in every order and in place") {
  const DType dtype = every_float();
  const Case size = GENERATE(Case{0, 8, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3},
                             Case{4, 33, 0}, Case{3, 1000, 1}, Case{2, 50257, 0});
  const float cap = GENERATE(0.0F, 3.0F);
  const CrossEntropyOptions options{.scale = 0.5, .soft_cap = cap};
  Device device;
  Array logits(dtype, {size.rows, size.vocab}, size.padding);
  logits.random(2, 4.0);
  const Array labels = make_labels(size.rows, size.vocab);
  Array nll(wide(dtype), {size.rows});
  Array gradient(dtype, {size.rows, size.vocab}, size.padding == 0 ? 2 : 0);
  processor().cross_entropy(nll, gradient, logits, labels, options);
  Array first(wide(dtype), {size.rows});
  device.cross_entropy(first, Tensor(), logits, labels, options);
  require_close(first, nll.values(), loss_tolerance(dtype));
  for (const shim::Order order : kOrders) {
    Array found(wide(dtype), {size.rows});
    Array beside(dtype, {size.rows, size.vocab}, size.padding == 0 ? 2 : 0);
    Device(order).cross_entropy(found, beside, logits, labels, options);
    CHECK(found.same_bits(first));
    require_close(beside, gradient.values(), gradient_tolerance(dtype));
    Array in_place = logits;
    Device(order).cross_entropy(found, in_place, in_place, labels, options);
    CHECK(found.same_bits(first));
    CHECK(in_place.same_bits(beside));
    CHECK(in_place.gaps_untouched());
  }
}

TEST_CASE("cuda: cross_entropy writes a gradient of the other narrow dtype") {
  const DType from = GENERATE(DType::kFloat32, DType::kBFloat16);
  const DType to = from == DType::kFloat32 ? DType::kBFloat16 : DType::kFloat32;
  const Index vocab = GENERATE(77, 5000);
  Array logits(from, {5, vocab}, GENERATE(0, 1));
  logits.random(2, 4.0);
  const Array labels = make_labels(5, vocab);
  Array nll(DType::kFloat32, {5});
  Array gradient(to, {5, vocab}, GENERATE(0, 2));
  processor().cross_entropy(nll, gradient, logits, labels, {.scale = 3.0});
  Array found_nll(DType::kFloat32, {5});
  Array found = gradient;
  found.fill(9.0);
  Device().cross_entropy(found_nll, found, logits, labels, {.scale = 3.0});
  require_close(found_nll, nll.values(), loss_tolerance(DType::kFloat32));
  require_close(found, gradient.values(), gradient_tolerance(to));
}

TEST_CASE("cuda: cross_entropy survives what the cpu's survives") {
  const DType dtype = every_float();
  Device device;
  const Index vocab = 1400;  // most threads have something
  Array logits(dtype, {7, vocab});
  logits.random(2);
  const auto set_row = [&](Index row, double value) {
    for (Index i = 0; i < vocab; ++i) logits.set(row * vocab + i, value);
  };
  set_row(0, -3e38);
  logits.set(3, 3e38);
  set_row(1, -INFINITY);
  logits.set(vocab + 3, 2.0);
  set_row(2, -INFINITY);  // nothing but -infinity: NaN
  logits.set(3 * vocab + 700, NAN);
  logits.set(4 * vocab + 900, INFINITY);
  for (Index i = 0; i < vocab; ++i) logits.set(5 * vocab + i, static_cast<double>(i));  // rising
  for (Index i = 0; i < vocab; ++i) logits.set(6 * vocab + i, -static_cast<double>(i));
  Array labels(DType::kInt32, {7});
  labels.fill(3);
  Array nll(wide(dtype), {7});
  Array gradient(dtype, {7, vocab});
  processor().cross_entropy(nll, gradient, logits, labels, {.scale = 1.0});
  Array found_nll(wide(dtype), {7});
  Array found(dtype, {7, vocab});
  device.cross_entropy(found_nll, found, logits, labels, {.scale = 1.0});
  require_alike(found_nll, nll, loss_tolerance(dtype));
  require_alike(found, gradient, gradient_tolerance(dtype));
}

TEST_CASE("cuda: a label outside of the vocabulary gives NaN and writes nowhere else") {
  Device device;
  Array logits(DType::kFloat32, {3, 4}, 3);
  logits.random(2);
  Array labels(DType::kInt32, {3});
  labels.fill(1);
  labels.set(1, GENERATE(-1, 4, -99, 1000000));
  Array nll(DType::kFloat32, {3});
  device.cross_entropy(nll, logits, logits, labels, {.scale = 1.0});
  CHECK(std::isnan(nll.get(1)));
  CHECK(std::isfinite(nll.get(0)));
  CHECK(std::isfinite(nll.get(2)));
  CHECK(logits.gaps_untouched());
}

TEST_CASE("cuda: cross_entropy refuses wrong tensors") {
  const Array logits(DType::kFloat32, {3, 4});
  const Array nll(DType::kFloat32, {3});
  const Array labels(DType::kInt32, {3});
  CHECK_THROWS_AS(
      Device().cross_entropy(nll, Array(DType::kFloat64, {3, 4}), logits, labels, {.scale = 1.0}),
      base::InternalError);
  CHECK_THROWS_AS(Device().cross_entropy(Array(DType::kBFloat16, {3}), Tensor(), logits, labels,
                                         {.scale = 1.0}),
                  base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
