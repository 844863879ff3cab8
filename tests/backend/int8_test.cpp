#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index tokens, blocks, block, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 2, 8, 0}, Case{1, 1, 1, 0}, Case{7, 3, 64, 0}, Case{5, 7, 3, 3},
                  Case{3, 1, 1000, 1}, Case{300, 2, 37, 0});
}

/// Numbers as codes, and what these stand for.
struct Coded {
  Coded(const Array& x, const Case& size)
      : codes(DType::kUInt8, {size.tokens, size.blocks * size.block}, size.padding),
        ranges(wide(x.tensor().dtype()), {size.tokens, 2 * size.blocks}, size.padding),
        again(x.tensor().dtype(), {size.tokens, size.blocks * size.block}, size.padding) {
    processor().quantize(codes, ranges, x);
    processor().dequantize(again, codes, ranges);
  }
  Array codes, ranges, again;
};

TEST_CASE("numbers come back from their codes to half a step, the least exactly") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array x(dtype, {size.tokens, size.blocks * size.block}, size.padding);
  x.random(1, 3.0);
  const Coded coded(x, size);
  REQUIRE(coded.codes.gaps_untouched());
  REQUIRE(coded.ranges.gaps_untouched());
  REQUIRE(coded.again.gaps_untouched());
  for (Index number = 0; number < size.tokens * size.blocks; ++number) {
    const Index first = number * size.block;  // of elements without gaps
    double least = INFINITY;
    double greatest = -INFINITY;
    for (Index i = first; i < first + size.block; ++i) {
      least = std::min(least, x.get(i));
      greatest = std::max(greatest, x.get(i));
    }
    const double step = (greatest - least) / 255;
    const double size_of_all = std::max(std::abs(least), std::abs(greatest));
    // Of the code's argument and of the number that it stands for.
    const double rounding =
        size_of_all * (unit_roundoff(dtype) + 1024 * unit_roundoff(wide(dtype)));
    REQUIRE(coded.ranges.get(2 * number) == least);
    REQUIRE(std::abs(coded.ranges.get(2 * number + 1) - step) <=
            4 * unit_roundoff(wide(dtype)) * size_of_all);
    bool has_least = false;
    bool has_greatest = false;
    for (Index i = first; i < first + size.block; ++i) {
      REQUIRE(std::abs(coded.again.get(i) - x.get(i)) <= step / 2 + rounding);
      has_least = has_least || (coded.codes.get(i) == 0 && coded.again.get(i) == least);
      has_greatest = has_greatest || coded.codes.get(i) == 255;
    }
    REQUIRE(has_least);
    REQUIRE((has_greatest || step == 0));
  }
}

TEST_CASE("codes are of the nearest step, ties to even") {
  Array x(DType::kFloat64, {1, 6});
  const std::vector<double> values = {-255.0, 0.0, -254.5, -253.5, -0.5, -100.2};
  for (Index i = 0; i < 6; ++i) x.set(i, values[static_cast<std::size_t>(i)]);
  const Coded coded(x, {1, 1, 6, 0});
  CHECK(coded.codes.values() == std::vector<double>{0, 255, 0, 2, 254, 155});
  CHECK(coded.again.values() == std::vector<double>{-255, 0, -255, -253, -1, -100});
}

TEST_CASE("a block whose numbers are equal comes back bit for bit") {
  const DType dtype = every_float();
  Array x(dtype, {3, 8});
  for (Index i = 0; i < 24; ++i) x.set(i, i < 8 ? 0.1 : i < 16 ? 0.0 : -1e30);
  CHECK(Coded(x, {3, 1, 8, 0}).again.same_bits(x));
}

TEST_CASE("what is not finite stays so, in its own block") {
  const double bad = GENERATE(double(NAN), double(INFINITY), -double(INFINITY));
  Array x(DType::kFloat32, {1, 12});
  x.random(2);
  x.set(5, bad);
  const Coded coded(x, {1, 3, 4, 0});
  for (Index i = 0; i < 12; ++i) {
    CHECK(std::isfinite(coded.again.get(i)) == (i < 4 || i >= 8));
  }
}

TEST_CASE("codes of another shape or dtype are refused") {
  const Array x(DType::kFloat32, {4, 6});
  const Array codes(DType::kUInt8, {4, 6});
  const auto refused = [&](const Array& some_codes, const Array& ranges) {
    CHECK_THROWS_AS(processor().quantize(some_codes, ranges, x), base::InternalError);
    CHECK_THROWS_AS(processor().dequantize(x, some_codes, ranges), base::InternalError);
  };
  refused(Array(DType::kInt32, {4, 6}), Array(DType::kFloat32, {4, 4}));
  refused(Array(DType::kUInt8, {4, 5}), Array(DType::kFloat32, {4, 4}));
  refused(codes, Array(DType::kFloat32, {4, 8}));  // no block of 1.5
  refused(codes, Array(DType::kFloat32, {4, 3}));
  refused(codes, Array(DType::kFloat32, {3, 4}));
  refused(codes, Array(DType::kFloat64, {4, 4}));
}

}  // namespace
}  // namespace longspan::backend::testing
