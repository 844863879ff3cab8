#include "longspan/checkpoint/convert.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "longspan/base/bfloat16.h"
#include "longspan/base/error.h"
#include "longspan/base/float16.h"

namespace longspan::checkpoint {
namespace {

using base::BFloat16;
using base::DType;
using base::Float16;

float half(std::uint16_t bits) {
  Float16 value{};
  value.bits = bits;
  return static_cast<float>(value);
}

TEST_CASE("float16: the values of its definition") {
  CHECK(half(0x0000) == 0.0F);
  CHECK(std::signbit(half(0x8000)));
  CHECK(half(0x3c00) == 1.0F);
  CHECK(half(0xc000) == -2.0F);
  CHECK(half(0x7bff) == 65504.0F);
  CHECK(half(0x0400) == std::ldexp(1.0F, -14));
  CHECK(half(0x0001) == std::ldexp(1.0F, -24));
  CHECK(half(0x83ff) == -std::ldexp(1023.0F, -24));
  CHECK(half(0x3555) == 0.333251953125F);
  CHECK(half(0x7c00) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(half(0x7e01)));
}

TEST_CASE("float16: every value survives a round trip, and what is between goes to the nearest") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = half(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) {
      CHECK(std::isnan(static_cast<float>(Float16(value))));
      continue;
    }
    if (Float16(value).bits != bits) FAIL(bits);
    if ((bits & 0x7fffU) >= 0x7bffU) continue;
    // Between it and the next one away from 0: the middle goes to the even one.
    const float next = half(static_cast<std::uint16_t>(bits + 1));
    const float middle = value + (next - value) / 2;
    const std::uint32_t even = bits % 2 == 0 ? bits : bits + 1;
    if (Float16(middle).bits != even) FAIL(bits << " middle");
    if (Float16(std::nextafter(middle, value)).bits != bits) FAIL(bits << " below");
    if (Float16(std::nextafter(middle, next)).bits != bits + 1) FAIL(bits << " above");
  }
  CHECK(Float16(65519.9F).bits == 0x7bff);
  CHECK(Float16(65520.0F).bits == 0x7c00);
  CHECK(Float16(-1e30F).bits == 0xfc00);
  CHECK(Float16(1e-30F).bits == 0);
}

TEST_CASE("convert: between all float types, from and to memory that is not aligned") {
  const std::vector<double> values = {0.0, -1.0, 0.5, 3.0, -1024.0};
  const auto types = {DType::kFloat64, DType::kFloat32, DType::kBFloat16, DType::kFloat16};
  for (const DType from : types) {
    for (const DType to : types) {
      std::vector<std::byte> stored(1 + values.size() * base::size_of(from));
      std::vector<std::byte> converted(1 + values.size() * base::size_of(to));
      std::vector<double> back(values.size());
      convert(stored.data() + 1, from, values.data(), DType::kFloat64, values.size());
      convert(converted.data() + 1, to, stored.data() + 1, from, values.size());
      convert(back.data(), DType::kFloat64, converted.data() + 1, to, values.size());
      CHECK(back == values);
    }
  }
  const float exact = 1.00390625F;  // half way between two bfloat16
  BFloat16 rounded{};
  convert(&rounded, DType::kBFloat16, &exact, DType::kFloat32, 1);
  CHECK(static_cast<float>(rounded) == 1.0F);
  CHECK_THROWS_AS(convert(&rounded, DType::kInt32, &exact, DType::kFloat32, 1),
                  base::InternalError);
  CHECK_THROWS_AS(convert(&rounded, DType::kUInt16, &rounded, DType::kUInt16, 1),
                  base::InternalError);
}

TEST_CASE("convert: the first number that is not finite") {
  std::vector<float> numbers = {1.0F, 2.0F, 3.0F};
  CHECK(first_not_finite(numbers.data(), DType::kFloat32, 3) == 3);
  numbers[1] = std::numeric_limits<float>::quiet_NaN();
  CHECK(first_not_finite(numbers.data(), DType::kFloat32, 3) == 1);
  const std::vector<std::uint16_t> halves = {0x3c00, 0x7bff, 0xfc00};
  CHECK(first_not_finite(halves.data(), DType::kFloat16, 3) == 2);
  CHECK(first_not_finite(halves.data(), DType::kBFloat16, 3) == 3);
}

}  // namespace
}  // namespace longspan::checkpoint
