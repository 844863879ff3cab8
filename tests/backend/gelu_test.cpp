#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index tokens, width, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{5, 0, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3},
                  Case{3, 1000, 1}, Case{300, 37, 0}, Case{2, 20000, 8});
}

Array random_rows(DType dtype, const Case& size, std::uint64_t salt, double deviation = 1.0) {
  Array rows(dtype, {size.tokens, size.width}, size.padding);
  return rows.random(salt, deviation);
}

/// As published, with more digits than float64: 1 + tanh cancels for negative x.
double exact_gelu(double at) {
  const long double x = at;
  const long double u = std::sqrt(2.0L / 3.14159265358979323846L) * (x + 0.044715L * x * x * x);
  return static_cast<double>(0.5L * x * (1.0L + std::tanh(u)));
}

double exact_slope(double at) {
  const long double x = at;
  const long double c = std::sqrt(2.0L / 3.14159265358979323846L);
  const long double tanh = std::tanh(c * (x + 0.044715L * x * x * x));
  const long double du = c * (1.0L + 3.0L * 0.044715L * x * x);
  return static_cast<double>(0.5L * (1.0L + tanh) + 0.5L * x * (1.0L - tanh * tanh) * du);
}

/// One row of these values.
Array row_of(DType dtype, const std::vector<double>& values) {
  Array row(dtype, {1, static_cast<Index>(values.size())});
  for (Index i = 0; i < row.elements(); ++i) row.set(i, values[static_cast<std::size_t>(i)]);
  return row;
}

/// 1 - sigmoid loses what the sigmoid had rounded: an absolute error, times a slope of the
/// argument of at most some tens.
double gradient_tolerance(DType dtype) {
  return unit_roundoff(dtype) + 64.0 * unit_roundoff(wide(dtype));
}

TEST_CASE("gelu_forward agrees with double, in place too") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array x = random_rows(dtype, size, 1, 3.0);
  std::vector<double> expected;
  for (const double value : x.values()) expected.push_back(exact_gelu(value));
  Array out(dtype, {size.tokens, size.width}, size.padding);
  processor().gelu_forward(out, x);
  require_close(out, expected, unit_roundoff(dtype) + 8.0 * unit_roundoff(wide(dtype)));
  processor().gelu_forward(x, x);
  CHECK(x.same_bits(out));
  CHECK(x.gaps_untouched());
}

TEST_CASE("gelu around 0 is accurate relative to its value") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kFloat64);
  const Array x = row_of(dtype, {-1e-30, -1e-20, -1e-9, -1e-4, -0.02, 0.02, 1e-4, 1e-9, 1e-20});
  Array out(dtype, {1, x.elements()});
  processor().gelu_forward(out, x);
  Array slope(dtype, {1, x.elements()});
  Array dout(dtype, {1, x.elements()});
  processor().gelu_backward(slope, Tensor(), dout.fill(1.0), x);
  for (Index i = 0; i < x.elements(); ++i) {
    const double want = exact_gelu(x.get(i));
    CHECK(std::abs(out.get(i) - want) <= 8.0 * unit_roundoff(dtype) * std::abs(want));
    CHECK(std::abs(slope.get(i) - exact_slope(x.get(i))) <= 8.0 * unit_roundoff(dtype));
  }
}

TEST_CASE("gelu is exact at 0 and far from it") {
  const DType dtype = every_float();
  const Array x = row_of(dtype, {0.0, -0.0, 1e4, -1e4, 64.0, -64.0, 1e30, -1e30, 3e38, -3e38});
  Array out(dtype, {1, x.elements()});
  Array slope(dtype, {1, x.elements()});
  Array dout(dtype, {1, x.elements()});
  dout.fill(1.0);
  processor().gelu_forward(out, x);
  processor().gelu_backward(slope, Tensor(), dout, x);
  for (Index i = 0; i < x.elements(); ++i) {
    INFO(x.get(i));
    CHECK(out.get(i) == std::max(0.0, x.get(i)));
    CHECK(slope.get(i) == (x.get(i) == 0.0 ? 0.5 : x.get(i) > 0.0 ? 1.0 : 0.0));
  }
}

TEST_CASE("gelu keeps NaN") {
  const DType dtype = every_float();
  const Array x = row_of(dtype, {NAN, 1.0});
  Array out(dtype, {1, 2});
  Array dx(dtype, {1, 2});
  Array dout(dtype, {1, 2});
  processor().gelu_backward(dx, out, dout.fill(1.0), x);
  CHECK((std::isnan(out.get(0)) && std::isnan(dx.get(0))));
  CHECK((std::isfinite(out.get(1)) && std::isfinite(dx.get(1))));
}

TEST_CASE("gelu_backward agrees with double, in place too, and repeats the forward's bits") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array x = random_rows(dtype, size, 1, 3.0);
  Array dout = random_rows(dtype, size, 2);
  std::vector<double> expected;
  for (Index i = 0; i < x.elements(); ++i) {
    expected.push_back(dout.get(i) * exact_slope(x.get(i)));
  }
  Array forward(dtype, {size.tokens, size.width});
  processor().gelu_forward(forward, x);

  Array dx(dtype, {size.tokens, size.width}, size.padding == 0 ? 0 : 2);
  processor().gelu_backward(dx, Tensor(), dout, x);
  require_close(dx, expected, gradient_tolerance(dtype));

  Array out(dtype, {size.tokens, size.width}, size.padding);
  Array with_out(dtype, {size.tokens, size.width});
  processor().gelu_backward(with_out, out, dout, x);
  CHECK(with_out.same_bits(dx));
  CHECK(out.same_bits(forward));
  CHECK(out.gaps_untouched());

  // The gradient replaces x, and the forward's result the gradient that came in.
  processor().gelu_backward(x, dout, dout, x);
  CHECK(x.same_bits(dx));
  CHECK(dout.same_bits(forward));
  CHECK((x.gaps_untouched() && dout.gaps_untouched()));
}

TEST_CASE("gelu_backward agrees with finite differences") {
  const Case size{4, 13, 1};
  Array x = random_rows(DType::kFloat64, size, 1, 2.0);
  const Array dout = random_rows(DType::kFloat64, size, 2);
  Array dx(DType::kFloat64, {size.tokens, size.width});
  processor().gelu_backward(dx, Tensor(), dout, x);
  Array out(DType::kFloat64, {size.tokens, size.width});
  const auto slope = finite_difference(x, [&] {
    processor().gelu_forward(out, x);
    return dot(out, dout);
  });
  require_close(dx, slope, kDifferenceTolerance);
}

TEST_CASE("gelu gives the same bits on one thread and on two") {
  const DType dtype = every_float();
  const Case size{700, 65, GENERATE(0, 3)};
  const Array x = random_rows(dtype, size, 1, 3.0);
  const Array dout = random_rows(dtype, size, 2);
  const auto run = [&](int threads, Array& dx, Array& out) {
    const Threads scope(threads);
    processor().gelu_backward(dx, out, dout, x);
  };
  const Shape shape{size.tokens, size.width};
  Array dx_one(dtype, shape);
  Array dx_two(dtype, shape);
  Array out_one(dtype, shape);
  Array out_two(dtype, shape);
  run(1, dx_one, out_one);
  run(2, dx_two, out_two);
  CHECK(dx_one.same_bits(dx_two));
  CHECK(out_one.same_bits(out_two));
}

TEST_CASE("gelu refuses tensors that break its contract") {
  const Array x(DType::kFloat32, {3, 8});
  const Array narrow(DType::kFloat32, {3, 4});
  const Array short_dtype(DType::kBFloat16, {3, 8});
  const Array vector(DType::kFloat32, {8});
  const Array integers(DType::kInt32, {3, 8});
  CHECK_THROWS_WITH(processor().gelu_forward(narrow, x),
                    "gelu_forward: out is float32 [3, 4]; expected float32 [3, 8]");
  CHECK_THROWS_WITH(processor().gelu_forward(short_dtype, x),
                    "gelu_forward: out is bfloat16 [3, 8]; expected float32 [3, 8]");
  CHECK_THROWS_WITH(processor().gelu_forward(vector, vector),
                    "gelu_forward: x is float32 [8]; expected rank 2");
  CHECK_THROWS_WITH(processor().gelu_forward(integers, integers),
                    "gelu_forward: x is int32 [3, 8]; expected float32, bfloat16 or float64");
  CHECK_THROWS_AS(processor().gelu_backward(narrow, Tensor(), x, x), base::InternalError);
  CHECK_THROWS_AS(processor().gelu_backward(x, narrow, x, x), base::InternalError);
  CHECK_THROWS_AS(processor().gelu_backward(x, Tensor(), short_dtype, x), base::InternalError);
  CHECK_THROWS_AS(processor().gelu_backward(x, Tensor(), Tensor(), x), base::InternalError);
  CHECK_THROWS_AS(processor().gelu_backward(x, x, x, Tensor()), base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::testing
