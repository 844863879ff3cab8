#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index tokens, width, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{5, 0, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3},
                  Case{3, 1000, 1}, Case{1100, 33, 0}, Case{2, 20000, 8});
}

Array random_rows(DType dtype, const Case& size, std::uint64_t salt) {
  Array rows(dtype, {size.tokens, size.width}, size.padding);
  return rows.random(salt);
}

TEST_CASE("add_bias rounds each exact sum once") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array out = random_rows(dtype, size, 1);
  Array bias(dtype, {size.width});
  bias.random(2);
  Array expected(dtype, {size.tokens, size.width});
  for (Index i = 0; i < out.elements(); ++i) {
    // Of two float32, in double: exact, or so near that a second rounding changes nothing.
    expected.set(i, out.get(i) + bias.get(i % size.width));
  }
  processor().add_bias(out, bias);
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
}

TEST_CASE("bias_backward adds the sums over rows, in double") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Array dy = random_rows(dtype, size, 1);
  Array dbias(wide(dtype), {size.width});
  dbias.random(2);
  std::vector<double> expected = dbias.values();
  for (Index i = 0; i < dy.elements(); ++i) {
    expected[static_cast<std::size_t>(i % size.width)] += dy.get(i);
  }
  processor().bias_backward(dbias, dy);
  require_close(dbias, expected, 256.0 * unit_roundoff(wide(dtype)));
}

TEST_CASE("bias_backward agrees with finite differences") {
  const Case size{5, 7, 3};
  Array bias(DType::kFloat64, {size.width});
  bias.random(1);
  const Array x = random_rows(DType::kFloat64, size, 2);
  const Array dy = random_rows(DType::kFloat64, size, 3);
  Array dbias(DType::kFloat64, {size.width});
  dbias.fill(0.0);
  processor().bias_backward(dbias, dy);
  const auto slope = finite_difference(bias, [&] {
    Array out = x;
    processor().add_bias(out, bias);
    return dot(out, dy);
  });
  require_close(dbias, slope, kDifferenceTolerance);
}

TEST_CASE("biases give the same bits on one thread and on two") {
  const DType dtype = every_float();
  const Case size = GENERATE(Case{700, 65, 0}, Case{40, 3000, 5});
  const Array dy = random_rows(dtype, size, 1);
  Array bias(dtype, {size.width});
  bias.random(2);
  const auto run = [&](int threads, Array& out, Array& dbias) {
    const Threads scope(threads);
    processor().add_bias(out, bias);
    dbias.random(3);
    processor().bias_backward(dbias, dy);
  };
  Array one = dy;
  Array two = dy;
  Array gradient_one(wide(dtype), {size.width});
  Array gradient_two(wide(dtype), {size.width});
  run(1, one, gradient_one);
  run(2, two, gradient_two);
  CHECK(one.same_bits(two));
  CHECK(gradient_one.same_bits(gradient_two));
}

TEST_CASE("biases refuse tensors that break their contracts") {
  const Array rows(DType::kBFloat16, {4, 6});
  const Array bias(DType::kBFloat16, {6});
  const Array wide_bias(DType::kFloat32, {6});
  const Array gaps(DType::kFloat32, {6, 1}, 1);
  CHECK_THROWS_WITH(processor().add_bias(rows, Array(DType::kBFloat16, {4})),
                    "add_bias: bias is bfloat16 [4]; expected bfloat16 [6]");
  CHECK_THROWS_WITH(processor().add_bias(rows, wide_bias),
                    "add_bias: bias is float32 [6]; expected bfloat16 [6]");
  CHECK_THROWS_WITH(
      processor().add_bias(Array(DType::kFloat32, {4, 6}), gaps.tensor().reshape({6})),
      "add_bias: bias is float32 [6]; expected a dense vector");
  CHECK_THROWS_WITH(processor().add_bias(bias, bias),
                    "add_bias: out is bfloat16 [6]; expected rank 2");
  CHECK_THROWS_WITH(processor().add_bias(Array(DType::kInt32, {4, 6}), Array(DType::kInt32, {6})),
                    "add_bias: out is int32 [4, 6]; expected float32, bfloat16 or float64");
  CHECK_THROWS_AS(processor().add_bias(rows, Tensor()), base::InternalError);
  CHECK_THROWS_WITH(processor().bias_backward(bias, rows),
                    "bias_backward: dbias is bfloat16 [6]; expected float32 [6]");
  CHECK_THROWS_WITH(processor().bias_backward(wide_bias, bias),
                    "bias_backward: dy is bfloat16 [6]; expected rank 2");
  CHECK_THROWS_AS(processor().bias_backward(Array(DType::kFloat32, {4}), rows),
                  base::InternalError);
  CHECK_THROWS_AS(processor().bias_backward(Tensor(), rows), base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::testing
