#pragma once

#include <bit>
#include <cstdint>

#include "longspan/base/host_device.h"

namespace longspan::base {

/// The upper half of an IEEE float32. Conversion from float rounds to nearest, ties to even, and
/// keeps NaN a NaN; arithmetic is done in float by the caller.
struct BFloat16 {
  std::uint16_t bits;

  BFloat16() = default;
  LONGSPAN_HOST_DEVICE explicit BFloat16(float value) : bits(round_bits(value)) {}
  LONGSPAN_HOST_DEVICE explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
  }

 private:
  LONGSPAN_HOST_DEVICE static std::uint16_t round_bits(float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    const bool is_nan = (word & 0x7fffffffU) > 0x7f800000U;
    const std::uint32_t rounded = word + 0x7fffU + ((word >> 16U) & 1U);
    return static_cast<std::uint16_t>(is_nan ? (word >> 16U) | 0x40U : rounded >> 16U);
  }
};
static_assert(sizeof(BFloat16) == 2);

}  // namespace longspan::base
