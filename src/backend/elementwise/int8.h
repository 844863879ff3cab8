#pragma once

#include <cmath>
#include <cstdint>

#include "longspan/base/host_device.h"

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
};

/// 0 of a number that is finite, else NaN.
template <typename Real>
LONGSPAN_HOST_DEVICE inline Real taint_of(Real value) {
  return value - value;
}

}  // namespace longspan::backend
