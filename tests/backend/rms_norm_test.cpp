#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

constexpr RmsNormOptions kOptions{.epsilon = 1e-5F, .weight_offset = 0.25F};

struct Case {
  Index tokens, hidden, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3}, Case{3, 1000, 1},
                  Case{1100, 33, 0});
}

/// Inputs and outputs of one norm.
struct Norm {
  Norm(DType dtype, Index tokens, Index hidden, Index padding)
      : x(dtype, {tokens, hidden}, padding),
        weight(dtype, {hidden}),
        out(dtype, {tokens, hidden}, padding),
        rstd(wide(dtype), {tokens}),
        dy(dtype, {tokens, hidden}, padding),
        residual(dtype, {tokens, hidden}, padding),
        dx(dtype, {tokens, hidden}, padding),
        dweight(wide(dtype), {hidden}) {
    x.random(1);
    weight.random(2);
    dy.random(3);
    residual.random(4);
    dweight.random(5);
  }
  void forward() { processor().rms_norm_forward(out, rstd, x, weight, kOptions); }
  void backward() {
    processor().rms_norm_backward(dx, dweight, dy, residual, rstd, x, weight, kOptions);
  }

  Array x, weight, out, rstd, dy, residual, dx, dweight;
};

double scale_of(const Norm& norm, Index h) { return kOptions.weight_offset + norm.weight.get(h); }

double exact_rstd(const Norm& norm, Index t) {
  const Index hidden = norm.weight.elements();
  double squares = 0.0;
  for (Index h = 0; h < hidden; ++h) squares += std::pow(norm.x.get(t * hidden + h), 2);
  return 1.0 / std::sqrt(squares / static_cast<double>(hidden) + double{kOptions.epsilon});
}

/// dx and dweight in double, by the textbook.
void exact_gradients(const Norm& norm, std::vector<double>& dx, std::vector<double>& dweight) {
  const Index hidden = norm.weight.elements();
  dx = norm.residual.values();
  dweight = norm.dweight.values();
  for (Index t = 0; t * hidden < norm.x.elements(); ++t) {
    const double rstd = exact_rstd(norm, t);
    double product = 0.0;
    for (Index h = 0; h < hidden; ++h) {
      const Index i = t * hidden + h;
      product += norm.dy.get(i) * scale_of(norm, h) * norm.x.get(i);
      dweight[static_cast<std::size_t>(h)] += norm.dy.get(i) * norm.x.get(i) * rstd;
    }
    for (Index h = 0; h < hidden; ++h) {
      const Index i = t * hidden + h;
      dx[static_cast<std::size_t>(i)] +=
          rstd * norm.dy.get(i) * scale_of(norm, h) -
          norm.x.get(i) * product * std::pow(rstd, 3) / static_cast<double>(hidden);
    }
  }
}

TEST_CASE("rms_norm_forward agrees with double, and again gives the same bits") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Norm norm(dtype, size.tokens, size.hidden, size.padding);
  norm.forward();
  std::vector<double> out;
  std::vector<double> rstd;
  for (Index i = 0; i < norm.x.elements(); ++i) {
    const double scale = exact_rstd(norm, i / size.hidden);
    if (i % size.hidden == 0) rstd.push_back(scale);
    out.push_back(norm.x.get(i) * scale * scale_of(norm, i % size.hidden));
  }
  // The sum of squares and the root add a few roundings of the compute dtype to the last one.
  require_close(norm.rstd, rstd, 8.0 * unit_roundoff(wide(dtype)));
  require_close(norm.out, out, unit_roundoff(dtype) + 16.0 * unit_roundoff(wide(dtype)));
  Array again(dtype, {size.tokens, size.hidden});
  processor().rms_norm_again(again, norm.rstd, norm.x, norm.weight, kOptions);
  CHECK(again.same_bits(norm.out));
}

TEST_CASE("add_rms_norm_forward is add, then rms_norm_forward, bit for bit") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Norm norm(dtype, size.tokens, size.hidden, size.padding);
  const Shape shape{size.tokens, size.hidden};
  Array sum(dtype, shape, size.padding == 0 ? 0 : 2);
  processor().add(norm.x, norm.dy, norm.residual);
  norm.forward();
  const auto check = [&](const Array& added, const Array& a, const Array& b) {
    Array out(dtype, shape, size.padding);
    Array rstd(wide(dtype), {size.tokens});
    processor().add_rms_norm_forward(out, rstd, added, a, b, norm.weight, kOptions);
    CHECK(added.same_bits(norm.x));
    CHECK(out.same_bits(norm.out));
    CHECK(rstd.same_bits(norm.rstd));
    CHECK((added.gaps_untouched() && out.gaps_untouched()));
  };
  check(sum, norm.dy, norm.residual);
  const Array first = norm.dy;
  check(first, first, norm.residual);
  const Array second = norm.residual;
  check(second, norm.dy, second);
}

TEST_CASE("rms_norm_backward agrees with double and adds the residual's gradient") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Norm norm(dtype, size.tokens, size.hidden, size.padding);
  norm.forward();
  std::vector<double> dx;
  std::vector<double> dweight;
  exact_gradients(norm, dx, dweight);
  norm.backward();
  require_close(norm.dx, dx, unit_roundoff(dtype) + 64.0 * unit_roundoff(wide(dtype)));
  require_close(norm.dweight, dweight, 256.0 * unit_roundoff(wide(dtype)));

  Array aliased = norm.residual;
  Array other_dweight(wide(dtype), {size.hidden});
  other_dweight.random(5);
  processor().rms_norm_backward(aliased, other_dweight, norm.dy, aliased, norm.rstd, norm.x,
                                norm.weight, kOptions);
  CHECK(aliased.same_bits(norm.dx));
  CHECK(other_dweight.same_bits(norm.dweight));
}

TEST_CASE("rms_norm_backward without a residual agrees with finite differences") {
  Norm norm(DType::kFloat64, 3, 5, 2);
  norm.forward();
  norm.dweight.fill(0.0);
  processor().rms_norm_backward(norm.dx, norm.dweight, norm.dy, Tensor(), norm.rstd, norm.x,
                                norm.weight, kOptions);
  const auto loss = [&] {
    norm.forward();
    return dot(norm.out, norm.dy);
  };
  require_close(norm.dx, finite_difference(norm.x, loss), kDifferenceTolerance);
  require_close(norm.dweight, finite_difference(norm.weight, loss), kDifferenceTolerance);
}

TEST_CASE("rms_norm of heads is that of rows, head by head; dx may be dy") {
  const DType dtype = every_float();
  const Index padding = GENERATE(0, 3);
  constexpr Index kTokens = 21;
  constexpr Index kHeads = 3;
  constexpr Index kWidth = 10;
  const Shape shape{kTokens, kHeads, kWidth};
  Norm rows(dtype, kTokens * kHeads, kWidth, 0);
  rows.forward();
  processor().rms_norm_backward(rows.dx, rows.dweight, rows.dy, Tensor(), rows.rstd, rows.x,
                                rows.weight, kOptions);
  const auto as_heads = [&](const Array& array) {
    Array heads(dtype, shape, padding);
    for (Index i = 0; i < array.elements(); ++i) heads.set(i, array.get(i));
    return heads;
  };
  const Array x = as_heads(rows.x);
  Array out(dtype, shape, padding);
  Array again(dtype, shape, padding);
  Array rstd(wide(dtype), {kTokens, kHeads});
  processor().rms_norm_forward(out, rstd, x, rows.weight, kOptions);
  processor().rms_norm_again(again, rstd, x, rows.weight, kOptions);
  Array gradient = as_heads(rows.dy);
  Array dweight(wide(dtype), {kWidth});
  dweight.random(5);
  processor().rms_norm_backward(gradient, dweight, gradient, Tensor(), rstd, x, rows.weight,
                                kOptions);
  CHECK(out.values() == rows.out.values());
  CHECK(again.values() == rows.out.values());
  CHECK(rstd.values() == rows.rstd.values());
  CHECK(gradient.values() == rows.dx.values());
  require_close(dweight, rows.dweight.values(), 256.0 * unit_roundoff(wide(dtype)));
  CHECK((out.gaps_untouched() && gradient.gaps_untouched()));
}

TEST_CASE("rms_norm gives the same bits on one thread and on two") {
  const DType dtype = every_float();
  Norm one(dtype, 700, 65, 0);
  Norm two(dtype, 700, 65, 0);
  {
    const Threads threads(1);
    one.forward();
    one.backward();
  }
  const Threads threads(2);
  two.forward();
  two.backward();
  CHECK(one.out.same_bits(two.out));
  CHECK(one.dx.same_bits(two.dx));
  CHECK(one.dweight.same_bits(two.dweight));
}

TEST_CASE("rms_norm refuses tensors that break its contract") {
  Norm norm(DType::kBFloat16, 4, 6, 0);
  const Array short_weight(DType::kBFloat16, {5});
  const Array wide_weight(DType::kFloat32, {6});
  const Array narrow(DType::kBFloat16, {6});
  CHECK_THROWS_WITH(
      processor().rms_norm_forward(norm.out, norm.rstd, norm.x, short_weight, kOptions),
      "rms_norm_forward: weight is bfloat16 [5]; expected bfloat16 [6]");
  CHECK_THROWS_AS(processor().rms_norm_forward(norm.out, norm.rstd, norm.x, wide_weight, kOptions),
                  base::InternalError);
  CHECK_THROWS_WITH(processor().add_rms_norm_forward(norm.out, norm.rstd, norm.x, norm.dy, narrow,
                                                     norm.weight, kOptions),
                    "add_rms_norm_forward: b is bfloat16 [6]; expected bfloat16 [4, 6]");
  CHECK_THROWS_AS(processor().add_rms_norm_forward(norm.out, norm.rstd, Tensor(), norm.dy, norm.dy,
                                                   norm.weight, kOptions),
                  base::InternalError);
  CHECK_THROWS_AS(processor().add_rms_norm_forward(norm.out, norm.rstd, norm.x, norm.dy, norm.dy,
                                                   short_weight, kOptions),
                  base::InternalError);
  CHECK_THROWS_AS(processor().rms_norm_again(norm.out, narrow, norm.x, norm.weight, kOptions),
                  base::InternalError);
  CHECK_THROWS_AS(processor().rms_norm_backward(norm.dx, narrow, norm.dy, Tensor(), norm.rstd,
                                                norm.x, norm.weight, kOptions),
                  base::InternalError);
  CHECK_THROWS_AS(processor().rms_norm_backward(norm.dx, norm.dweight, norm.dy, wide_weight,
                                                norm.rstd, norm.x, norm.weight, kOptions),
                  base::InternalError);
}

TEST_CASE("rms_norm_backward without a dweight gives the same dx, bit for bit") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  const bool with_residual = GENERATE(true, false);
  Norm norm(dtype, size.tokens, size.hidden, size.padding);
  const Tensor residual = with_residual ? norm.residual.tensor() : Tensor();
  norm.forward();
  processor().rms_norm_backward(norm.dx, norm.dweight, norm.dy, residual, norm.rstd, norm.x,
                                norm.weight, kOptions);
  Array alone(dtype, {size.tokens, size.hidden}, size.padding);
  processor().rms_norm_backward(alone, Tensor(), norm.dy, residual, norm.rstd, norm.x, norm.weight,
                                kOptions);
  CHECK(alone.same_bits(norm.dx));
  CHECK(alone.gaps_untouched());
}

}  // namespace
}  // namespace longspan::backend::testing
