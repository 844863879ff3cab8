#pragma once

#include <cstdint>
#include <limits>

#include "longspan/base/host_device.h"

// The dynamic maps of 8-bit moments (Dettmers et al. 2022, "8-bit optimizers via block-wise
// quantization"), the same on every device.
namespace longspan::backend {

inline constexpr int kMapCodes = 256;

/// What codes stand for, rising with the code, within [-1, 1] or [0, 1]. From 1e-6 on there are
/// seven decades, (0.1, 1] times a power of ten, each cut evenly into twice as many parts as the
/// one before, of which the middles are values: 1 part in the first decade of the signed map, which
/// has every value with both signs, and 2 in that of the unsigned one. Besides there are 0 and 1.
template <bool kSigned>
struct DynamicMap {
  static constexpr int kZero = kSigned ? kMapCodes / 2 - 1 : 0;  ///< the code of 0

  LONGSPAN_HOST_DEVICE static float value(int code) {
    return code == kZero ? 0.0F : other_value(code);
  }

  /// The largest number that is rounded to `code`, and not to the one above: half-way between their
  /// values. But only 0 is rounded to 0: a mean keeps its sign, and a mean of squares, by whose
  /// root is divided, does not vanish.
  LONGSPAN_HOST_DEVICE static float bound(int code) {
    if (code == kZero) return 0.0F;
    if (kSigned && code + 1 == kZero) return -std::numeric_limits<float>::denorm_min();
    return middle(code);
  }
  /// The same of plain rounding to the nearest value, 0 as any other.
  LONGSPAN_HOST_DEVICE static float middle(int code) {
    if (code == kMapCodes - 1) return std::numeric_limits<float>::infinity();
    return 0.5F * (value(code) + value(code + 1));
  }

 private:
  /// Of a code that is not that of 0.
  LONGSPAN_HOST_DEVICE static float other_value(int code) {
    if (code == kMapCodes - 1) return 1.0F;
    constexpr double kDecades[] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0};
    const int rank = (code > kZero ? code - kZero : kZero - code) + (kSigned ? 0 : 1);
    int parts = kSigned ? 1 : 2;
    int decade = 0;
    for (; 2 * parts <= rank; parts *= 2) ++decade;
    const double within = (rank - parts + 0.5) / parts;
    const double size = (0.1 + 0.9 * within) * kDecades[decade];
    return static_cast<float>(code > kZero ? size : -size);
  }
};

/// A map's values and bounds as tables, in which kernels look up.
struct MapTable {
  float values[kMapCodes];
  float bounds[kMapCodes];

  template <bool kSigned>
  LONGSPAN_HOST_DEVICE void fill(int code) {
    values[code] = DynamicMap<kSigned>::value(code);
    bounds[code] = DynamicMap<kSigned>::bound(code);
  }
  /// Of the signed map, for plain rounding to the nearest value.
  LONGSPAN_HOST_DEVICE void fill_nearest(int code) {
    values[code] = DynamicMap<true>::value(code);
    bounds[code] = DynamicMap<true>::middle(code);
  }
  /// The code of x, which is a number.
  LONGSPAN_HOST_DEVICE std::uint8_t code_of(float x) const {
    int code = 0;
    for (int half = kMapCodes / 2; half > 0; half /= 2) {
      code += x > bounds[code + half - 1] ? half : 0;
    }
    return static_cast<std::uint8_t>(code);
  }
};

/// What is kept of a moment that was `before`: one that is not finite would take its block with it.
LONGSPAN_HOST_DEVICE inline float kept_moment(float now, float before) {
  const bool is_finite = now - now == 0.0F;
  return is_finite ? now : before;
}

/// Of a block whose largest size is `scale`.
LONGSPAN_HOST_DEVICE inline float scaled(float moment, float scale) {
  return scale > 0.0F ? moment / scale : 0.0F;
}

}  // namespace longspan::backend
