#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index tokens, blocks, block, padding;
};

/// Blocks of less and more than a warp, packs that end within blocks, gaps that break alignment.
Case awkward_size() {
  return GENERATE(Case{0, 2, 8, 0}, Case{1, 1, 1, 0}, Case{7, 3, 64, 0}, Case{5, 7, 3, 3},
                  Case{3, 1, 1000, 1}, Case{30, 2, 37, 0}, Case{9, 4, 32, 16});
}

TEST_CASE("cuda: numbers become the cpu's codes, and codes the cpu's numbers") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Shape shape{size.tokens, size.blocks * size.block};
  Array x(dtype, shape, size.padding);
  x.random(1, 3.0);
  Array codes(DType::kUInt8, shape, size.padding);
  Array ranges(wide(dtype), {size.tokens, 2 * size.blocks}, size.padding);
  device.quantize(codes, ranges, x);
  Array expected_codes(DType::kUInt8, shape);
  Array expected_ranges(wide(dtype), {size.tokens, 2 * size.blocks});
  processor().quantize(expected_codes, expected_ranges, x);
  CHECK(codes.same_bits(expected_codes));
  CHECK(ranges.same_bits(expected_ranges));
  REQUIRE(codes.gaps_untouched());
  REQUIRE(ranges.gaps_untouched());

  Array out(dtype, shape, size.padding);
  device.dequantize(out, codes, ranges);
  Array expected(dtype, shape);
  processor().dequantize(expected, codes, ranges);
  // Products and sums may be fused on one side.
  require_near(out, expected, same_arithmetic(dtype), 12.0 * unit_roundoff(wide(dtype)));
}

TEST_CASE("cuda: codes rounded at random are the cpu's, bit for bit") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Index first_column = GENERATE(0, 13);  // within a block of draws
  const Shape shape{size.tokens, size.blocks * size.block};
  Array x(dtype, shape, size.padding);
  x.random(1, 3.0);
  Array numbers(DType::kInt32, {size.tokens});
  numbers.random_ids(2, 1 << 30);
  const CodeRounding rounding{
      numbers, {11, base::Purpose::kCodeRounding, 3, 5}, first_column + shape[1] + 5, first_column};
  Array codes(DType::kUInt8, shape, size.padding);
  Array ranges(wide(dtype), {size.tokens, 2 * size.blocks}, size.padding);
  device.quantize_at_random(codes, ranges, x, rounding);
  Array expected_codes(DType::kUInt8, shape);
  Array expected_ranges(wide(dtype), {size.tokens, 2 * size.blocks});
  processor().quantize_at_random(expected_codes, expected_ranges, x, rounding);
  CHECK(codes.same_bits(expected_codes));
  CHECK(ranges.same_bits(expected_ranges));
  REQUIRE(codes.gaps_untouched());
  REQUIRE(ranges.gaps_untouched());
}

TEST_CASE("cuda: what is not finite stays so, in its own block") {
  const double bad = GENERATE(double(NAN), double(INFINITY), -double(INFINITY));
  Device device;
  Array x(DType::kFloat32, {1, 120});
  x.random(2);
  x.set(50, bad);
  Array codes(DType::kUInt8, {1, 120});
  Array ranges(DType::kFloat32, {1, 6});
  device.quantize(codes, ranges, x);
  device.dequantize(x, codes, ranges);
  for (Index i = 0; i < 120; ++i) CHECK(std::isfinite(x.get(i)) == (i < 40 || i >= 80));
}

TEST_CASE("cuda: codes of another shape are refused") {
  const Array x(DType::kFloat32, {4, 6});
  CHECK_THROWS_AS(
      Device().quantize(Array(DType::kUInt8, {4, 6}), Array(DType::kFloat32, {4, 3}), x),
      base::InternalError);
  const Array three(DType::kInt32, {3});
  const CodeRounding rounding{three, {1, base::Purpose::kTest, 0, 0}, 6, 0};
  CHECK_THROWS_AS(Device().quantize_at_random(Array(DType::kUInt8, {4, 6}),
                                              Array(DType::kFloat32, {4, 4}), x, rounding),
                  base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
