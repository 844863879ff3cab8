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

/// Token numbers that are not their places.
Array numbers_of(Index tokens) {
  Array numbers(DType::kInt32, {tokens});
  for (Index t = 0; t < tokens; ++t) numbers.set(t, static_cast<double>((7 * t + 3) % 1000));
  return numbers;
}

CodeRounding rounding_of(const Array& numbers, Index columns, std::uint64_t step,
                         Index first_column = 0) {
  return {numbers, {11, base::Purpose::kCodeRounding, step, 5}, columns, first_column};
}

TEST_CASE("codes rounded at random are less than a step away, the least exactly, and saturate") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Index width = size.blocks * size.block;
  Array x(dtype, {size.tokens, width}, size.padding);
  x.random(1, 3.0);
  Coded coded(x, size);  // to nearest
  const Array nearest(coded.codes);
  const std::vector<double> ranges = coded.ranges.values();
  const Array numbers = numbers_of(size.tokens);
  processor().quantize_at_random(coded.codes, coded.ranges, x, rounding_of(numbers, width, 3));
  processor().dequantize(coded.again, coded.codes, coded.ranges);
  REQUIRE(coded.codes.gaps_untouched());
  REQUIRE(coded.ranges.gaps_untouched());
  REQUIRE(coded.ranges.values() == ranges);
  for (Index i = 0; i < x.elements(); ++i) {
    const Index number = i / size.block;
    const double low = coded.ranges.get(2 * number);
    const double step = coded.ranges.get(2 * number + 1);
    const double largest = std::max(std::abs(low), std::abs(low + 255 * step));
    const double rounding = largest * (unit_roundoff(dtype) + 1024 * unit_roundoff(wide(dtype)));
    REQUIRE(std::abs(coded.again.get(i) - x.get(i)) < step + rounding);
    REQUIRE(std::abs(coded.codes.get(i) - nearest.get(i)) <= 1);
    if (nearest.get(i) == 0 && x.get(i) == low) REQUIRE(coded.codes.get(i) == 0);
  }
}

TEST_CASE("codes rounded at random take the steps that their draws say") {
  Array x(DType::kFloat64, {2, 21});
  for (Index i = 0; i < 42; ++i) x.set(i, i % 21 == 0 ? 0.0 : i % 21 == 1 ? 255.0 : 6.1 * (i % 21));
  Array codes(DType::kUInt8, {2, 21});
  Array ranges(DType::kFloat64, {2, 2});
  const Array numbers = numbers_of(2);
  const CodeRounding rounding = rounding_of(numbers, 40, 3, 13);
  processor().quantize_at_random(codes, ranges, x, rounding);
  for (Index i = 0; i < 42; ++i) {
    // Row by row 40 columns, 8 of them a block of 4 words, of which 16 bits are one's own.
    const Index column = 13 + i % 21;
    const auto block = static_cast<std::uint64_t>(numbers.get(i / 21) * 5 + double(column / 8));
    const std::uint32_t word = rounding.stream.block(block).word[column % 8 / 2];
    const double draw = (column % 2 == 0 ? word & 0xffffU : word >> 16U) / 65536.0;
    const double below = std::floor(x.get(i));
    CHECK(codes.get(i) == below + (x.get(i) - below > draw ? 1 : 0));
  }
}

TEST_CASE("a block whose numbers are equal, rounded at random, comes back bit for bit") {
  const DType dtype = every_float();
  Array x(dtype, {3, 8});
  for (Index i = 0; i < 24; ++i) x.set(i, i < 8 ? 0.1 : i < 16 ? 0.0 : -1e30);
  Coded coded(x, {3, 1, 8, 0});
  processor().quantize_at_random(coded.codes, coded.ranges, x, rounding_of(numbers_of(3), 8, 1));
  processor().dequantize(coded.again, coded.codes, coded.ranges);
  CHECK(coded.again.same_bits(x));
}

TEST_CASE(
    "codes rounded at random: the mean is the number, the variance a quarter step^2 at most") {
  constexpr int kDraws = 4000;
  constexpr Index kWidth = 24;
  Array x(DType::kFloat32, {3, kWidth});
  x.random(4, 2.0);
  Coded coded(x, {3, 1, kWidth, 0});
  const Array numbers = numbers_of(3);
  std::vector<double> sums(3 * kWidth);
  std::vector<double> squares(3 * kWidth);
  for (std::uint64_t step = 0; step < kDraws; ++step) {
    processor().quantize_at_random(coded.codes, coded.ranges, x,
                                   rounding_of(numbers, kWidth, step));
    for (Index i = 0; i < 3 * kWidth; ++i) {
      const double low = coded.ranges.get(2 * (i / kWidth));
      const double error =
          coded.codes.get(i) - (x.get(i) - low) / coded.ranges.get(2 * (i / kWidth) + 1);
      sums[static_cast<std::size_t>(i)] += error;
      squares[static_cast<std::size_t>(i)] += error * error;
    }
  }
  double of_all = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    // In steps: a deviation of at most 1/2 each; 2^-15 for the draws' grid and float32. The draws
    // are seeded, and 5 standard errors of 72 means are not to be expected from any seed.
    CHECK(std::abs(sums[i] / kDraws) <= 5 * 0.5 / std::sqrt(kDraws) + 0x1p-15);
    const double variance = squares[i] / kDraws - std::pow(sums[i] / kDraws, 2);
    CHECK(variance <= 0.25 + 1e-9);
    of_all += sums[i] / kDraws;
  }
  const auto count = static_cast<double>(sums.size());
  CHECK(std::abs(of_all / count) <= 4 * 0.5 / std::sqrt(kDraws * count) + 0x1p-15);
}

TEST_CASE(
    "codes rounded at random go with a token's number and an element's place in the whole row") {
  constexpr Index kTokens = 40;
  constexpr Index kWidth = 3 * 12;  // heads of 12: draws' blocks of 8 cross them
  Array x(every_float(), {kTokens, kWidth});
  x.random(6);
  const Array numbers = numbers_of(kTokens);
  Array codes(DType::kUInt8, {kTokens, kWidth});
  Array ranges(wide(x.tensor().dtype()), {kTokens, 6});
  processor().quantize_at_random(codes, ranges, x, rounding_of(numbers, kWidth, 9));

  // Some of the tokens, in another order, and the last two heads alone; on one thread.
  constexpr Index kPart = 2 * 12;
  Array part(x.tensor().dtype(), {3, kPart});
  Array own(DType::kInt32, {3});
  const std::vector<Index> chosen = {31, 0, 7};
  for (Index t = 0; t < 3; ++t) {
    const Index token = chosen[static_cast<std::size_t>(t)];
    own.set(t, numbers.get(token));
    for (Index i = 0; i < kPart; ++i) part.set(t * kPart + i, x.get(token * kWidth + 12 + i));
  }
  Array part_codes(DType::kUInt8, {3, kPart});
  Array part_ranges(wide(x.tensor().dtype()), {3, 4});
  {
    const Threads one(1);
    processor().quantize_at_random(part_codes, part_ranges, part, rounding_of(own, kWidth, 9, 12));
  }
  for (Index t = 0; t < 3; ++t) {
    for (Index i = 0; i < kPart; ++i) {
      CHECK(part_codes.get(t * kPart + i) ==
            codes.get(chosen[static_cast<std::size_t>(t)] * kWidth + 12 + i));
    }
  }
  Array others(codes);
  processor().quantize_at_random(others, ranges, x, rounding_of(numbers, kWidth, 10));
  CHECK_FALSE(others.same_bits(codes));
}

TEST_CASE("what is not finite stays so when codes are rounded at random") {
  const double bad = GENERATE(double(NAN), double(INFINITY), -double(INFINITY));
  Array x(DType::kFloat32, {1, 12});
  x.random(2);
  x.set(5, bad);
  Coded coded(x, {1, 3, 4, 0});
  processor().quantize_at_random(coded.codes, coded.ranges, x, rounding_of(numbers_of(1), 12, 1));
  processor().dequantize(coded.again, coded.codes, coded.ranges);
  for (Index i = 0; i < 12; ++i) {
    CHECK(std::isfinite(coded.again.get(i)) == (i < 4 || i >= 8));
  }
}

TEST_CASE("rounding codes at random refuses what breaks its contract") {
  const Array x(DType::kFloat32, {4, 6});
  const Array codes(DType::kUInt8, {4, 6});
  const Array ranges(DType::kFloat32, {4, 4});
  const auto refused = [&](const CodeRounding& rounding) {
    CHECK_THROWS_AS(processor().quantize_at_random(codes, ranges, x, rounding),
                    base::InternalError);
  };
  refused(rounding_of(numbers_of(3), 6, 1));
  refused(rounding_of(Array(DType::kFloat32, {4}), 6, 1));
  refused(rounding_of(numbers_of(4), 5, 1));
  refused(rounding_of(numbers_of(4), 8, 1, 3));
  refused(rounding_of(numbers_of(4), 8, 1, -1));
  CHECK_THROWS_AS(processor().quantize_at_random(codes, Array(DType::kFloat32, {4, 3}), x,
                                                 rounding_of(numbers_of(4), 6, 1)),
                  base::InternalError);
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
