#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index tokens, groups, length, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 2, 8, 0}, Case{1, 1, 1, 0}, Case{7, 3, 64, 0}, Case{5, 7, 3, 3},
                  Case{3, 1, 1000, 1}, Case{300, 2, 37, 0});
}

TEST_CASE("project: each group's product with the direction, times the scale") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array x(dtype, {size.tokens, size.groups * size.length}, size.padding);
  x.random(1);
  Array direction(wide(dtype), {size.length});
  direction.random(2);
  Array out(dtype, {size.tokens, size.groups}, size.padding);
  processor().project(out, x, direction, 1.5);
  std::vector<double> expected;
  double most = 1.0;
  for (Index number = 0; number < size.tokens * size.groups; ++number) {
    double sum = 0.0;
    double sizes = 0.0;
    for (Index j = 0; j < size.length; ++j) {
      const double term = 1.5 * x.get(number * size.length + j) * direction.get(j);
      sum += term;
      sizes += std::abs(term);
    }
    expected.push_back(sum);
    most = std::max(most, sizes);
  }
  // One rounding of the result, and those of the sum.
  const double tolerance = 2.0 * unit_roundoff(dtype) +
                           static_cast<double>(size.length) * most * unit_roundoff(wide(dtype));
  require_close(out, expected, tolerance);
}

TEST_CASE("project: what does not fit is refused") {
  const Array x(DType::kFloat32, {2, 6});
  const auto refuses = [&](const Array& out, const Array& direction) {
    CHECK_THROWS_AS(processor().project(out, x, direction, 1.0), base::InternalError);
  };
  refuses(Array(DType::kFloat32, {2, 2}), Array(DType::kFloat32, {2}));
  refuses(Array(DType::kFloat32, {3, 2}), Array(DType::kFloat32, {3}));
  refuses(Array(DType::kFloat64, {2, 2}), Array(DType::kFloat32, {3}));
  refuses(Array(DType::kFloat32, {2, 2}), Array(DType::kFloat64, {3}));
}

/// Updates of the compressed and of the expanded gradient, side by side.
struct Pair {
  Pair(DType dtype, Index numbers, Index length)
      : direction(dtype, {length}),
        gradient(dtype, {numbers}),
        expanded(dtype, {numbers * length}),
        master(dtype, {numbers * length}),
        m(dtype, {numbers}),
        v(dtype, {numbers}),
        plain_master(dtype, {numbers * length}),
        plain_m(dtype, {numbers * length}),
        plain_v(dtype, {numbers * length}) {
    direction.random(1, 0.3);
    master.random(2);
    plain_master.random(2);
    for (Array* one : {&m, &v, &plain_m, &plain_v}) one->fill(0.0);
  }

  void update(std::int64_t number, float epsilon) {
    gradient.random(10 + static_cast<std::uint64_t>(number));
    const Index length = direction.elements();
    for (Index i = 0; i < expanded.elements(); ++i) {
      expanded.set(i, gradient.get(i / length) * direction.get(i % length));
    }
    AdamWOptions options = adamw_options(number);
    options.epsilon = epsilon;
    processor().adamw_compressed(Tensor(), master, m, v, gradient, direction, options);
    processor().adamw(Tensor(), plain_master, plain_m, plain_v, expanded, options);
  }

  Array direction, gradient, expanded;
  Array master, m, v;
  Array plain_master, plain_m, plain_v;
};

TEST_CASE("adamw of compressed gradients is that of the expanded ones, epsilon and all") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kFloat64);
  const Index length = GENERATE(1, 3, 8, 40);
  const float epsilon = GENERATE(0.0F, 1e-8F, 0.01F);
  for (const Index numbers : {0, 1, 7, 1000}) {
    Pair pair(dtype, numbers, length);
    for (std::int64_t update = 1; update <= 50; ++update) pair.update(update, epsilon);
    // Each update rounds a handful of numbers near 1.
    const double tolerance = 50 * 8.0 * unit_roundoff(dtype);
    require_close(pair.master, pair.plain_master.values(), tolerance);
    for (Index i = 0; i < pair.expanded.elements(); ++i) {
      const double direction = pair.direction.get(i % length);
      const double m = pair.m.get(i / length) * direction;
      const double v = pair.v.get(i / length) * direction * direction;
      REQUIRE(std::abs(pair.plain_m.get(i) - m) <= tolerance);
      REQUIRE(std::abs(pair.plain_v.get(i) - v) <= tolerance);
    }
  }
}

TEST_CASE("adamw of compressed gradients rounds the master to the weight") {
  const DType dtype = every_float();
  Pair pair(wide(dtype), 100, 7);
  pair.gradient.random(3);
  Array weight(dtype, {700});
  processor().adamw_compressed(weight, pair.master, pair.m, pair.v, pair.gradient, pair.direction,
                               adamw_options(1));
  Array rounded(dtype, {700});
  for (Index i = 0; i < 700; ++i) rounded.set(i, pair.master.get(i));
  CHECK(weight.same_bits(rounded));
}

}  // namespace
}  // namespace longspan::backend::testing
