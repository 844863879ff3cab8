#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace longspan::base {

/// IEEE binary16, of files alone. Conversion from float rounds to nearest, ties to even; beyond
/// 65504 it gives infinity, and NaN stays NaN.
struct Float16 {
  std::uint16_t bits;

  Float16() = default;
  explicit Float16(float value) : bits(round_bits(value)) {}
  explicit operator float() const {
    const std::uint32_t sign = (bits & 0x8000U) << 16U;
    const std::uint32_t exponent = (bits >> 10U) & 0x1fU;
    const std::uint32_t fraction = bits & 0x3ffU;
    if (exponent == 0) {  // 0, or fraction * 2^-24
      const float tiny = static_cast<float>(fraction) * 0x1p-24F;
      return sign == 0 ? tiny : -tiny;
    }
    const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
    return std::bit_cast<float>(sign | wide << 23U | fraction << 13U);
  }

 private:
  static std::uint16_t round_bits(float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((word >> 16U) & 0x8000U);
    const std::uint32_t magnitude = word & 0x7fffffffU;
    if (magnitude > 0x7f800000U) return static_cast<std::uint16_t>(sign | 0x7e00U);
    if (magnitude >= 0x477ff000U) return static_cast<std::uint16_t>(sign | 0x7c00U);  // >= 65520
    if (magnitude < 0x38800000U) {  // below 2^-14: a multiple of 2^-24
      const float steps = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24F);
      return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(steps));
    }
    const std::uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13U) & 1U);
    return static_cast<std::uint16_t>(sign | ((rounded >> 13U) - (112U << 10U)));
  }
};
static_assert(sizeof(Float16) == 2);

}  // namespace longspan::base
