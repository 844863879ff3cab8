#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "longspan/base/host_device.h"

// The arithmetic of random numbers, in functions that run on every device: integers are equal bit
// for bit everywhere, normal numbers up to the rounding of a logarithm and a cosine in double.
namespace longspan::base {

struct PhiloxBlock {
  std::uint32_t word[4];

  bool operator==(const PhiloxBlock&) const = default;
};

struct PhiloxKey {
  std::uint32_t word[2];
};

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): ten
/// rounds over a 128-bit counter with a 64-bit key.
LONGSPAN_HOST_DEVICE inline PhiloxBlock philox4x32(PhiloxBlock counter, PhiloxKey key) {
  constexpr std::uint32_t kMultiplier0 = 0xD2511F53U;
  constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57U;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9U;
  constexpr std::uint32_t kWeyl1 = 0xBB67AE85U;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(kMultiplier0) * counter.word[0];
    const std::uint64_t product1 = static_cast<std::uint64_t>(kMultiplier1) * counter.word[2];
    counter = {{static_cast<std::uint32_t>(product1 >> 32U) ^ counter.word[1] ^ key.word[0],
                static_cast<std::uint32_t>(product1),
                static_cast<std::uint32_t>(product0 >> 32U) ^ counter.word[3] ^ key.word[1],
                static_cast<std::uint32_t>(product0)}};
    key.word[0] += kWeyl0;
    key.word[1] += kWeyl1;
  }
  return counter;
}

/// The 64 bits of words 2 `half` and 2 `half` + 1.
LONGSPAN_HOST_DEVICE inline std::uint64_t bits_of(const PhiloxBlock& block, int half) {
  return (static_cast<std::uint64_t>(block.word[2 * half + 1]) << 32U) | block.word[2 * half];
}

/// Uniform in [0, 1), 53 bits.
LONGSPAN_HOST_DEVICE inline double to_unit(std::uint64_t bits) {
  return static_cast<double>(bits >> 11U) * 0x1.0p-53;
}

/// Standard normal (Box-Muller on all 128 bits).
LONGSPAN_HOST_DEVICE inline double to_normal(const PhiloxBlock& block) {
  const double radius_draw = 1.0 - to_unit(bits_of(block, 0));  // (0, 1]: the log is finite
  const double angle_draw = to_unit(bits_of(block, 1));
  return std::sqrt(-2.0 * std::log(radius_draw)) * std::cos(2.0 * std::numbers::pi * angle_draw);
}

}  // namespace longspan::base
