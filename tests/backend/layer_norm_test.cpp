#include "tests/backend/layer_norm_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index tokens, hidden, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3}, Case{3, 1000, 1},
                  Case{1100, 33, 0}, Case{2, 20000, 0});
}

void forward(LayerNorm& norm) {
  processor().layer_norm_forward(norm.out, norm.mean, norm.rstd, norm.x, norm.weight, norm.bias,
                                 kLayerNormEpsilon);
}

void backward(LayerNorm& norm, const Tensor& residual) {
  processor().layer_norm_backward(norm.dx, norm.dweight, norm.dbias, norm.dy, residual, norm.mean,
                                  norm.rstd, norm.x, norm.weight);
}

struct Statistics {
  double mean = 0.0;
  double rstd = 0.0;
};

/// With more digits than float64, which is one of the dtypes.
Statistics exact_statistics(const LayerNorm& norm, Index t) {
  const Index hidden = norm.weight.elements();
  long double sum = 0.0L;
  for (Index h = 0; h < hidden; ++h) sum += norm.x.get(t * hidden + h);
  const long double mean = sum / static_cast<long double>(hidden);
  long double squares = 0.0L;
  for (Index h = 0; h < hidden; ++h) {
    const long double distance = norm.x.get(t * hidden + h) - mean;
    squares += distance * distance;
  }
  const long double variance = squares / static_cast<long double>(hidden);
  return {static_cast<double>(mean),
          static_cast<double>(1.0L / std::sqrt(variance + kLayerNormEpsilon))};
}

struct Gradients {
  std::vector<double> dx, dweight, dbias;
};

/// In double, by the textbook: of the normalised row z, dx = rstd (g - mean(g) - z mean(g z)).
Gradients exact_gradients(const LayerNorm& norm) {
  const Index hidden = norm.weight.elements();
  const auto count = static_cast<double>(hidden);
  Gradients exact{norm.residual.values(), norm.dweight.values(), norm.dbias.values()};
  for (Index t = 0; t * hidden < norm.x.elements(); ++t) {
    const Statistics of = exact_statistics(norm, t);
    const auto z = [&](Index h) { return (norm.x.get(t * hidden + h) - of.mean) * of.rstd; };
    const auto g = [&](Index h) { return norm.dy.get(t * hidden + h) * norm.weight.get(h); };
    double mean_g = 0.0;
    double mean_gz = 0.0;
    for (Index h = 0; h < hidden; ++h) {
      mean_g += g(h) / count;
      mean_gz += g(h) * z(h) / count;
      exact.dweight[static_cast<std::size_t>(h)] += norm.dy.get(t * hidden + h) * z(h);
      exact.dbias[static_cast<std::size_t>(h)] += norm.dy.get(t * hidden + h);
    }
    for (Index h = 0; h < hidden; ++h) {
      exact.dx[static_cast<std::size_t>(t * hidden + h)] +=
          of.rstd * (g(h) - mean_g - z(h) * mean_gz);
    }
  }
  return exact;
}

TEST_CASE("layer_norm_forward agrees with double, also far from 0") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  const bool far = GENERATE(false, true);
  LayerNorm norm(dtype, size.tokens, size.hidden, size.padding, far);
  forward(norm);
  std::vector<double> out;
  std::vector<double> mean;
  std::vector<double> rstd;
  for (Index t = 0; t < size.tokens; ++t) {
    const Statistics of = exact_statistics(norm, t);
    mean.push_back(of.mean);
    rstd.push_back(of.rstd);
    for (Index h = 0; h < size.hidden; ++h) {
      const double z = (norm.x.get(t * size.hidden + h) - of.mean) * of.rstd;
      out.push_back(z * norm.weight.get(h) + norm.bias.get(h));
    }
  }
  require_close(norm.mean, mean, 16.0 * unit_roundoff(wide(dtype)));
  require_close(norm.rstd, rstd, 32.0 * unit_roundoff(wide(dtype)));
  require_close(norm.out, out, unit_roundoff(dtype) + norm.tolerance());
}

TEST_CASE("layer_norm of a row without variance gives the bias") {
  const DType dtype = every_float();
  const Index hidden = GENERATE(1, 33, 20000);
  LayerNorm norm(dtype, 2, hidden, 0);
  norm.x.fill(9984.0);  // a bfloat16
  forward(norm);
  CHECK(norm.out.values() == [&] {
    std::vector<double> twice = norm.bias.values();
    const std::vector<double> once = twice;
    twice.insert(twice.end(), once.begin(), once.end());
    return twice;
  }());
}

TEST_CASE("add_layer_norm_forward is add, then layer_norm_forward, bit for bit") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  LayerNorm norm(dtype, size.tokens, size.hidden, size.padding);
  const Shape shape{size.tokens, size.hidden};
  processor().add(norm.x, norm.dy, norm.residual);
  forward(norm);
  const auto check = [&](const Array& sum, const Array& a, const Array& b) {
    Array out(dtype, shape, size.padding);
    Array mean(wide(dtype), {size.tokens});
    Array rstd(wide(dtype), {size.tokens});
    processor().add_layer_norm_forward(out, mean, rstd, sum, a, b, norm.weight, norm.bias,
                                       kLayerNormEpsilon);
    CHECK(sum.same_bits(norm.x));
    CHECK(out.same_bits(norm.out));
    CHECK(mean.same_bits(norm.mean));
    CHECK(rstd.same_bits(norm.rstd));
    CHECK((sum.gaps_untouched() && out.gaps_untouched()));
  };
  check(Array(dtype, shape, size.padding == 0 ? 0 : 2), norm.dy, norm.residual);
  const Array first = norm.dy;
  check(first, first, norm.residual);
}

TEST_CASE("layer_norm_backward agrees with double and adds the residual's gradient") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  const bool far = GENERATE(false, true);
  LayerNorm norm(dtype, size.tokens, size.hidden, size.padding, far);
  forward(norm);
  const Gradients exact = exact_gradients(norm);
  backward(norm, norm.residual);
  require_close(norm.dx, exact.dx, unit_roundoff(dtype) + 4.0 * norm.tolerance());
  // Errors of the means add up over the rows.
  const double rows = std::sqrt(static_cast<double>(size.tokens));
  require_close(norm.dweight, exact.dweight, 8.0 * (1.0 + rows) * norm.tolerance());
  require_close(norm.dbias, exact.dbias, 256.0 * unit_roundoff(wide(dtype)));

  LayerNorm aliased(dtype, size.tokens, size.hidden, size.padding, far);
  processor().layer_norm_backward(aliased.residual, aliased.dweight, aliased.dbias, norm.dy,
                                  aliased.residual, norm.mean, norm.rstd, norm.x, norm.weight);
  CHECK(aliased.residual.same_bits(norm.dx));
  CHECK(aliased.dweight.same_bits(norm.dweight));
  CHECK(aliased.dbias.same_bits(norm.dbias));
}

TEST_CASE("layer_norm_backward without a residual agrees with finite differences") {
  const Case size = GENERATE(Case{3, 5, 2}, Case{2, 1, 0}, Case{4, 17, 0});
  LayerNorm norm(DType::kFloat64, size.tokens, size.hidden, size.padding);
  forward(norm);
  norm.dweight.fill(0.0);
  norm.dbias.fill(0.0);
  backward(norm, Tensor());
  const auto loss = [&] {
    forward(norm);
    return dot(norm.out, norm.dy);
  };
  require_close(norm.dx, finite_difference(norm.x, loss), kDifferenceTolerance);
  require_close(norm.dweight, finite_difference(norm.weight, loss), kDifferenceTolerance);
  require_close(norm.dbias, finite_difference(norm.bias, loss), kDifferenceTolerance);
}

TEST_CASE("layer_norm gives the same bits on one thread and on two") {
  const DType dtype = every_float();
  LayerNorm one(dtype, 700, 65, 0);
  LayerNorm two(dtype, 700, 65, 0);
  {
    const Threads threads(1);
    forward(one);
    backward(one, one.residual);
  }
  const Threads threads(2);
  forward(two);
  backward(two, two.residual);
  CHECK(one.out.same_bits(two.out));
  CHECK(one.dx.same_bits(two.dx));
  CHECK(one.dweight.same_bits(two.dweight));
  CHECK(one.dbias.same_bits(two.dbias));
}

TEST_CASE("layer_norm refuses tensors that break its contract") {
  LayerNorm norm(DType::kBFloat16, 4, 6, 0);
  const Array narrow(DType::kBFloat16, {4});
  const auto run = [&](const Tensor& mean, const Tensor& bias) {
    processor().layer_norm_forward(norm.out, mean, norm.rstd, norm.x, norm.weight, bias,
                                   kLayerNormEpsilon);
  };
  CHECK_THROWS_WITH(run(norm.mean, narrow),
                    "layer_norm_forward: bias is bfloat16 [4]; expected bfloat16 [6]");
  CHECK_THROWS_WITH(run(narrow, norm.bias),
                    "layer_norm_forward: mean is bfloat16 [4]; expected float32 [4]");
  CHECK_THROWS_WITH(
      processor().add_layer_norm_forward(norm.out, norm.mean, norm.rstd, norm.x, narrow, norm.dy,
                                         norm.weight, norm.bias, kLayerNormEpsilon),
      "add_layer_norm_forward: a is bfloat16 [4]; expected bfloat16 [4, 6]");
  CHECK_THROWS_WITH(
      processor().layer_norm_backward(norm.dx, norm.dweight, narrow, norm.dy, Tensor(), norm.mean,
                                      norm.rstd, norm.x, norm.weight),
      "layer_norm_backward: dbias is bfloat16 [4]; expected float32 [6]");
  CHECK_THROWS_AS(
      processor().layer_norm_backward(norm.dx, norm.dweight, norm.dbias, norm.dy, Tensor(),
                                      Tensor(), norm.rstd, norm.x, norm.weight),
      base::InternalError);
  CHECK_THROWS_AS(
      processor().layer_norm_backward(norm.dx, norm.dweight, norm.dbias, norm.dy, narrow, norm.mean,
                                      norm.rstd, norm.x, norm.weight),
      base::InternalError);
}

TEST_CASE("layer_norm_backward without dweight and dbias gives the same dx, bit for bit") {
  const DType dtype = every_float();
  const Index tokens = GENERATE(0, 3, 1100);
  const Index hidden = GENERATE(1, 33, 64);
  LayerNorm norm(dtype, tokens, hidden, 2);
  processor().layer_norm_forward(norm.out, norm.mean, norm.rstd, norm.x, norm.weight, norm.bias,
                                 kLayerNormEpsilon);
  const auto run = [&](const Tensor& dx, const Tensor& dweight, const Tensor& dbias) {
    processor().layer_norm_backward(dx, dweight, dbias, norm.dy, norm.residual, norm.mean,
                                    norm.rstd, norm.x, norm.weight);
  };
  run(norm.dx, norm.dweight, norm.dbias);
  Array alone(dtype, {tokens, hidden}, 2);
  run(alone, Tensor(), Tensor());
  CHECK(alone.same_bits(norm.dx));
  CHECK_THROWS_WITH(run(alone, norm.dweight, Tensor()),
                    Catch::Matchers::Contains("expected a tensor, or none, as dweight"));
}

}  // namespace
}  // namespace longspan::backend::testing
