#include <limits>

#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

const base::RandomStream kStream(11, base::Purpose::kRowSampling, 3, 5);
constexpr double kAll = std::numeric_limits<double>::infinity();

Array array_of(DType dtype, const std::vector<double>& values) {
  Array array(dtype, {static_cast<Index>(values.size())});
  for (std::size_t i = 0; i < values.size(); ++i) array.set(static_cast<Index>(i), values[i]);
  return array;
}

TEST_CASE("row_norms: the root of the sum of squares, of rows of any size") {
  const DType dtype = every_float();
  const Index columns = GENERATE(0, 1, 3, 33, 1000);
  Array x(dtype, {7, columns}, GENERATE(0, 3));
  x.random(1);
  // Squares of the second row would be 0, and those of the third infinite.
  for (Index i = 0; i < columns; ++i) {
    x.set(columns + i, x.get(columns + i) * 1e-30);
    x.set(2 * columns + i, x.get(2 * columns + i) * 1e30);
    x.set(3 * columns + i, 0.0);
  }
  const Array norms(wide(dtype), {7});
  processor().row_norms(norms, x);
  for (Index t = 0; t < 7; ++t) {
    double sum = 0;
    for (Index i = 0; i < columns; ++i) sum += x.get(t * columns + i) * x.get(t * columns + i);
    CHECK(norms.get(t) == Approx(std::sqrt(sum)).epsilon(1e-5).margin(0));
  }
}

TEST_CASE("row_norms of what is not finite are not, and a NaN among zeros is no zero") {
  Array x(DType::kFloat32, {3, 5});
  x.fill(0.0);
  x.set(1, std::nan(""));
  x.set(5 + 4, INFINITY);
  x.set(10, 2.0);
  x.set(14, std::nan(""));
  const Array norms(DType::kFloat32, {3});
  processor().row_norms(norms, x);
  for (Index t = 0; t < 3; ++t) CHECK_FALSE(std::isfinite(norms.get(t)));
}

TEST_CASE("scale_rows multiplies each row by its factor") {
  const DType dtype = every_float();
  const Index columns = GENERATE(1, 3, 33, 1000);
  Array out(dtype, {7, columns}, GENERATE(0, 3));
  out.random(1);
  Array factors(wide(dtype), {7});
  factors.random(2);
  std::vector<double> expected;
  for (Index i = 0; i < 7 * columns; ++i) {
    expected.push_back(out.get(i) * factors.get(i / columns));
  }
  processor().scale_rows(out, factors);
  require_close(out, expected, 8.0 * unit_roundoff(dtype) * 4.0);
  CHECK(out.gaps_untouched());
}

TEST_CASE("draw_rows: by a token's number alone, with the weight of its probability") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kFloat64);
  const std::vector<double> x{1.0, 2.0, 0.0, 4.0, 0.5, 3.0};
  const std::vector<double> dy{0.25, 0.0, 1.0, 0.5, 0.25, 0.125};
  const std::vector<double> numbers{70, 71, 72, 9, 74, 2147483647};
  const double factor = 0.75;
  Array rows(DType::kInt32, {8});
  Array weights(dtype, {8});
  const DrawnRows drawn =
      processor().draw_rows(rows, weights, array_of(dtype, x), array_of(dtype, dy),
                            array_of(DType::kInt32, numbers), {kStream, factor});
  Index count = 0;
  for (std::size_t t = 0; t < x.size(); ++t) {
    const double probability = factor * x[t] * dy[t];
    const bool is_drawn =
        probability > 0 && kStream.uniform(static_cast<std::uint64_t>(numbers[t])) < probability;
    if (!is_drawn) continue;
    CHECK(rows.get(count) == static_cast<double>(t));
    CHECK(weights.get(count) == Approx(1.0 / std::min(1.0, probability)).epsilon(1e-6));
    ++count;
  }
  CHECK(count > 0);
  CHECK(drawn.count == count);
  for (Index i = count; i < 8; ++i) {
    CHECK(rows.get(i) == -1);
    CHECK(weights.get(i) == 0);
  }
  CHECK(drawn.tokens == 4);
  CHECK(drawn.sizes == 0.25 + 2.0 + 0.125 + 0.375);
  CHECK(drawn.certain == 1);
  CHECK(drawn.rest == 0.25 + 0.125 + 0.375);
}

TEST_CASE("draw_rows without a bound draws all that is not zero, and what is not a number") {
  const Array x = array_of(DType::kFloat32, {1.0, 0.0, 2.0, std::nan("")});
  const Array dy = array_of(DType::kFloat32, {1e-30, 5.0, 1.0, 1.0});
  const Array numbers = array_of(DType::kInt32, {0, 1, 2, 3});
  Array rows(DType::kInt32, {4});
  Array weights(DType::kFloat32, {4});
  CHECK(processor().draw_rows(rows, weights, x, dy, numbers, {kStream, kAll}).count == 3);
  CHECK(rows.get(1) == 2);
  CHECK(rows.get(2) == 3);
  for (Index i = 0; i < 3; ++i) CHECK(weights.get(i) == 1.0);
  CHECK(processor().draw_rows(rows, weights, x, dy, numbers, {kStream, 0.0}).count == 1);
  CHECK(rows.get(0) == 3);
}

TEST_CASE("draw_rows draws with the probability asked for") {
  constexpr Index kTokens = 20000;
  Array x(DType::kFloat32, {kTokens});
  Array dy(DType::kFloat32, {kTokens});
  Array numbers(DType::kInt32, {kTokens});
  x.fill(0.5);
  dy.fill(0.5);
  for (Index t = 0; t < kTokens; ++t) numbers.set(t, static_cast<double>(t));
  const Array rows(DType::kInt32, {kTokens});
  const Array weights(DType::kFloat32, {kTokens});
  const auto count = static_cast<double>(
      processor().draw_rows(rows, weights, x, dy, numbers, {kStream, 1.2}).count);
  // Five standard errors.
  CHECK(std::abs(count / kTokens - 0.3) < 5.0 * std::sqrt(0.21 / kTokens));
}

TEST_CASE("operations on sampled rows refuse what breaks their contracts") {
  const Array x(DType::kFloat32, {4, 6});
  const Array four(DType::kFloat32, {4});
  const Array numbers(DType::kInt32, {4});
  CHECK_THROWS_WITH(processor().row_norms(Array(DType::kFloat32, {3}), x),
                    "row_norms: norms is float32 [3]; expected float32 [4]");
  CHECK_THROWS_AS(processor().scale_rows(x, Array(DType::kFloat64, {4})), base::InternalError);
  const auto refuses = [&](const Array& rows, const Array& weights, double factor) {
    CHECK_THROWS_AS(processor().draw_rows(rows, weights, four, four, numbers, {kStream, factor}),
                    base::InternalError);
  };
  refuses(Array(DType::kInt32, {3}), Array(DType::kFloat32, {3}), 1.0);
  refuses(numbers, Array(DType::kFloat32, {5}), 1.0);
  refuses(numbers, four, -1.0);
  refuses(numbers, four, std::nan(""));
}

}  // namespace
}  // namespace longspan::backend::testing
