#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "longspan/backend/backend.h"
#include "longspan/base/bfloat16.h"
#include "longspan/base/host_device.h"

// One element's update, the same on every device.
namespace longspan::backend {

/// The constants of one update u, so that an element costs one division and one root:
///   g = gradient_scale * gradient
///   m = beta1 m + (1 - beta1) g             v = beta2 v + (1 - beta2) g^2
///   master = master - lr decay master - lr (m / (1 - beta1^u)) / (sqrt(v / (1 - beta2^u)) + eps)
template <typename Real>
struct AdamWConstants {
  explicit AdamWConstants(const AdamWOptions& options)
      : gradient_scale(static_cast<Real>(options.gradient_scale)),
        beta1(static_cast<Real>(options.beta1)),
        beta2(static_cast<Real>(options.beta2)),
        rest1(static_cast<Real>(1.0 - options.beta1)),
        rest2(static_cast<Real>(1.0 - options.beta2)),
        keep(static_cast<Real>(1.0 - double{options.learning_rate} * options.weight_decay)),
        epsilon(static_cast<Real>(options.epsilon)) {
    const auto update = static_cast<double>(options.update);
    rate = static_cast<Real>(options.learning_rate / (1.0 - std::pow(options.beta1, update)));
    unbias2 = static_cast<Real>(1.0 / (1.0 - std::pow(options.beta2, update)));
  }

  Real gradient_scale;
  Real beta1, beta2;
  Real rest1, rest2;  ///< 1 - beta
  Real keep;          ///< 1 - lr decay
  Real epsilon;
  Real rate;     ///< lr / (1 - beta1^u)
  Real unbias2;  ///< 1 / (1 - beta2^u)
};

template <typename Real>
LONGSPAN_HOST_DEVICE inline void update_moments(Real& moment1, Real& moment2, Real gradient,
                                                const AdamWConstants<Real>& with) {
  const Real g = with.gradient_scale * gradient;
  moment1 = with.beta1 * moment1 + with.rest1 * g;
  moment2 = with.beta2 * moment2 + with.rest2 * (g * g);
}

template <typename Real>
LONGSPAN_HOST_DEVICE inline void adamw_update(Real& master, Real& moment1, Real& moment2,
                                              Real gradient, const AdamWConstants<Real>& with) {
  update_moments(moment1, moment2, gradient, with);
  const Real step = with.rate * moment1 / (std::sqrt(moment2 * with.unbias2) + with.epsilon);
  master = with.keep * master - step;
}

/// With the moments of a compressed gradient, of which the element's own is `direction` times as
/// large: those of the moments, updated, are `step` (rate times the mean) and `root`.
template <typename Real>
LONGSPAN_HOST_DEVICE inline void compressed_update(Real& master, Real step, Real root,
                                                   Real direction,
                                                   const AdamWConstants<Real>& with) {
  const Real size = std::abs(direction);
  master = with.keep * master - step * direction / (root * size + with.epsilon);
}

/// One of the two bfloat16 numbers around the value, the nearer the likelier, so that their mean is
/// the value; by the lower 16 of the random bits.
LONGSPAN_HOST_DEVICE inline base::BFloat16 round_at_random(float value, std::uint32_t random) {
  const auto word = std::bit_cast<std::uint32_t>(value);
  const bool is_finite = (word & 0x7f800000U) != 0x7f800000U;
  base::BFloat16 rounded(value);
  if (is_finite) rounded.bits = static_cast<std::uint16_t>((word + (random & 0xffffU)) >> 16U);
  return rounded;
}

/// Moments that stay as they are computed.
struct ExactMoments {};

/// Moments that are rounded to bfloat16 by random bits of their element's own.
struct RoundedMoments {
  base::RandomStream stream;
  std::uint64_t first_element;  ///< of the stream: the range's first
};

/// The update of element i of a range.
template <typename Real>
LONGSPAN_HOST_DEVICE inline void adamw_update(Real& master, Real& moment1, Real& moment2,
                                              Real gradient, const AdamWConstants<Real>& with,
                                              const ExactMoments& /*exact*/, Index /*i*/) {
  adamw_update(master, moment1, moment2, gradient, with);
}
LONGSPAN_HOST_DEVICE inline void adamw_update(float& master, base::BFloat16& moment1,
                                              base::BFloat16& moment2, float gradient,
                                              const AdamWConstants<float>& with,
                                              const RoundedMoments& rounded, Index i) {
  auto m = static_cast<float>(moment1);
  auto v = static_cast<float>(moment2);
  adamw_update(master, m, v, gradient, with);
  const base::PhiloxBlock random =
      rounded.stream.block(rounded.first_element + static_cast<std::uint64_t>(i));
  moment1 = round_at_random(m, random.word[0]);
  moment2 = round_at_random(v, random.word[1]);
}

}  // namespace longspan::backend
