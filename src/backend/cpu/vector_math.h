#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "backend/elementwise/compute.h"
#include "longspan/backend/tensor.h"

// Scalar pieces of which the compiler makes vector loops: no call into libm, no branch.
namespace longspan::backend::cpu {

inline double load(double value) { return value; }
inline float load(float value) { return value; }
inline float load(base::BFloat16 value) { return static_cast<float>(value); }

/// Rounds to the stored type, to nearest even.
template <typename T, typename Value>
T round_to(Value value) {
  if constexpr (std::is_same_v<T, base::BFloat16>) {
    return T(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

/// a * b + c, rounded once where the processor can; never a call into libm.
inline float multiply_add(float a, float b, float c) {
#ifdef FP_FAST_FMAF
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
inline double multiply_add(double a, double b, double c) {
#ifdef FP_FAST_FMA
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

/// exp(x) to about 1 unit in the last place. 0 below x = -86.99 (where the result would be less
/// than 2^-125.5), infinite above 88.73, NaN for NaN.
///
/// x = n ln2 + r with |r| <= ln2/2; exp(r) = 1 + r + r^2 q(r), q the minimax polynomial of degree
/// 4 in relative error (3e-9), found by Remez exchange; the result is scaled by 2^(n-1), then 2.
inline float exponential(float x) {
  constexpr float kLowest = -87.33654F;         // n = -126: the scale's bits become those of 0
  constexpr float kHighest = 89.0F;             // n = 128: the last doubling overflows
  constexpr float kRoundToInteger = 0x1.8p23F;  // adding it leaves n in the low bits
  // Written so that a NaN fails both comparisons and stays.
  x = x < kLowest ? kLowest : x;
  x = x > kHighest ? kHighest : x;
  const float shifted = multiply_add(x, 0x1.715476p+0F, kRoundToInteger);
  const float n = shifted - kRoundToInteger;
  // ln2 in two parts, the first short enough that n times it is exact.
  const float r = multiply_add(n, -0x1.7f7d1cp-20F, multiply_add(n, -0x1.62e4p-1F, x));
  float q = 0x1.6a23cep-10F;
  q = multiply_add(q, r, 0x1.123a2p-7F);
  q = multiply_add(q, r, 0x1.5558f2p-5F);
  q = multiply_add(q, r, 0x1.555492p-3F);
  q = multiply_add(q, r, 0x1.fffffcp-2F);
  const float mantissa = 1.0F + multiply_add(r * r, q, r);
  const std::uint32_t scale_bits = (std::bit_cast<std::uint32_t>(shifted) + 126U) << 23U;
  return mantissa * std::bit_cast<float>(scale_bits) * 2.0F;
}

inline double exponential(double x) { return std::exp(x); }

/// 1 / (1 + exp(-x)).
template <typename Value>
Value sigmoid(Value x) {
  return Value(1) / (Value(1) + exponential(-x));
}

/// tanh(x) to about 2 units in the last place: near 0 as x + x z q(z) with z = x^2, q the minimax
/// polynomial of degree 4 in relative error on |x| <= 0.625 (4e-9), found by Remez exchange; beyond
/// as 1 - 2 / (exp(2 |x|) + 1) with the sign of x. NaN stays.
inline float hyperbolic_tangent(float x) {
  constexpr float kNear = 0.625F;
  const float z = x * x;
  float q = -0x1.75e1cep-8F;
  q = multiply_add(q, z, 0x1.52269cp-6F);
  q = multiply_add(q, z, -0x1.b83c5ap-5F);
  q = multiply_add(q, z, 0x1.110726p-3F);
  q = multiply_add(q, z, -0x1.555532p-2F);
  const float near = multiply_add(x * z, q, x);
  const float size = std::fabs(x);
  const float far = std::copysign(1.0F - 2.0F / (exponential(2.0F * size) + 1.0F), x);
  return size < kNear ? near : far;
}

inline double hyperbolic_tangent(double x) { return std::tanh(x); }

/// Partial results of a reduction, in a number that no instruction set changes: the order of the
/// additions depends on the length alone.
inline constexpr Index kLanes = 16;

/// Folds value(0) .. value(n - 1) into lanes and the lanes into one: `initial` is neutral.
template <typename Result, typename Value, typename Combine>
Result reduce(Index n, Result initial, const Value& value, const Combine& combine) {
  Result lanes[kLanes];
  std::fill(lanes, lanes + kLanes, initial);
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (Index lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = combine(lanes[lane], static_cast<Result>(value(i + lane)));
    }
  }
  for (Index lane = 0; i + lane < n; ++lane) {
    lanes[lane] = combine(lanes[lane], static_cast<Result>(value(i + lane)));
  }
  for (Index step = kLanes / 2; step > 0; step /= 2) {
    for (Index lane = 0; lane < step; ++lane) {
      lanes[lane] = combine(lanes[lane], lanes[lane + step]);
    }
  }
  return lanes[0];
}

/// Sum of value(i) in Result.
template <typename Result, typename Value>
Result sum_of(Index n, const Value& value) {
  return reduce(n, Result(0), value, [](Result a, Result b) { return a + b; });
}

}  // namespace longspan::backend::cpu
