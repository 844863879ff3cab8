#pragma once

#include <cmath>
#include <cstdint>

#include "longspan/backend/tensor.h"
#include "longspan/base/host_device.h"
#include "longspan/base/random.h"

// 8-bit codes of a block of numbers, the same on every device.
namespace longspan::backend {

inline constexpr int kCodes = 255;  ///< steps from the least number of a block to its greatest

/// The numbers that codes of one block stand for: low + step code.
template <typename Real>
struct CodeRange {
  Real low;
  Real step;

  /// `taint` is 0, or NaN where some number of the block is not finite.
  LONGSPAN_HOST_DEVICE static CodeRange between(Real least, Real greatest, Real taint) {
    return {least + taint, (greatest - least) / Real(kCodes)};
  }
  LONGSPAN_HOST_DEVICE Real value(std::uint8_t code) const {
    return low + step * static_cast<Real>(code);
  }
};

/// Makes codes; its inverse is formed once a block.
template <typename Real>
struct Coder {
  Real low;
  Real inverse;

  LONGSPAN_HOST_DEVICE explicit Coder(const CodeRange<Real>& range)
      : low(range.low), inverse(range.step > 0 ? Real(1) / range.step : Real(0)) {}

  /// A NaN gives 0: the range of its block says what it was.
  LONGSPAN_HOST_DEVICE std::uint8_t code(Real value) const {
    const Real steps = std::rint((value - low) * inverse);
    if (!(steps > 0)) return 0;
    return static_cast<std::uint8_t>(steps < Real(kCodes) ? steps : Real(kCodes));
  }
  /// The step above rather than the one below where `draw`, of 16 bits, is less than what the value
  /// is beyond that one. Compared with a sum that is exact: no device can fuse it to another
  /// answer.
  LONGSPAN_HOST_DEVICE std::uint8_t code(Real value, std::uint32_t draw) const {
    const Real steps = (value - low) * inverse;
    if (!(steps > 0)) return 0;
    if (!(steps < Real(kCodes))) return static_cast<std::uint8_t>(kCodes);
    const Real below = std::floor(steps);
    const bool is_above = steps > below + Real(draw) * Real(0x1.0p-16);
    return static_cast<std::uint8_t>(static_cast<int>(below) + (is_above ? 1 : 0));
  }
};

/// So many neighbours of a row share one evaluation of Philox, 16 bits each.
inline constexpr Index kCodeNeighbours = 8;

/// The draws of the columns around `column` in the row of this number, `columns` wide.
LONGSPAN_HOST_DEVICE inline base::PhiloxBlock code_block(const base::RandomStream& stream,
                                                         std::int32_t number, Index columns,
                                                         Index column) {
  const Index blocks = (columns + kCodeNeighbours - 1) / kCodeNeighbours;
  return stream.block(static_cast<std::uint64_t>(number * blocks + column / kCodeNeighbours));
}

LONGSPAN_HOST_DEVICE inline std::uint32_t code_draw(const base::PhiloxBlock& block, Index column) {
  const auto place = static_cast<unsigned>(column % kCodeNeighbours);
  return (block.word[place / 2] >> (16U * (place % 2))) & 0xffffU;
}

}  // namespace longspan::backend
