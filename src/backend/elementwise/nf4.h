#pragma once

#include <cstdint>

#include "longspan/base/host_device.h"

// The arithmetic of NF4 codes, the same on every device: every product and sum is rounded by
// itself, as bitsandbytes rounds it.
namespace longspan::backend {

inline constexpr int kNf4Values = 16;

/// What codes stand for, rising with the code: quantiles of a normal distribution, with the size 1
/// at both ends and 0 among them (Dettmers et al. 2023, "QLoRA", appendix E; the numbers as
/// bitsandbytes has them).
LONGSPAN_HOST_DEVICE inline float nf4_value(int code) {
  constexpr float kValues[kNf4Values] = {-1.0F,        -0.6961928F,  -0.52507305F, -0.39491749F,
                                         -0.28444138F, -0.18477343F, -0.09105004F, 0.0F,
                                         0.0795803F,   0.1609302F,   0.2461123F,   0.33791524F,
                                         0.44070983F,  0.562617F,    0.72295684F,  1.0F};
  return kValues[code];
}

/// The code of the nearest value; of the lower one half-way between two, and of NaN.
LONGSPAN_HOST_DEVICE inline std::uint8_t nf4_code(float x) {
  int code = 0;
  for (int half = kNf4Values / 2; half > 0; half /= 2) {
    const int below = code + half - 1;
    const float bound = 0.5F * (nf4_value(below) + nf4_value(below + 1));
    code += x > bound ? half : 0;
  }
  return static_cast<std::uint8_t>(code);
}

/// What a block's elements are multiplied by before they are coded. Of a block of zeros anything
/// will do: all its codes are those of 0. So it will where the size is not a number.
LONGSPAN_HOST_DEVICE inline float inverse_of(float most) {
  constexpr float kLeast = 1e-38F;
  return 1.0F / (most > kLeast ? most : kLeast);
}

/// A block's size from its code's value, the scale of its 256 and the mean of all.
LONGSPAN_HOST_DEVICE inline float nf4_size(float value, float scale, float mean) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(__fmul_rn(value, scale), mean);
#else
  const volatile float product = value * scale;  // which a fused operation would not round
  return product + mean;
#endif
}

}  // namespace longspan::backend
