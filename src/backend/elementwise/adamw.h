#pragma once

#include <cmath>

#include "longspan/backend/backend.h"
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
LONGSPAN_HOST_DEVICE inline void adamw_update(Real& master, Real& moment1, Real& moment2,
                                              Real gradient, const AdamWConstants<Real>& with) {
  const Real g = with.gradient_scale * gradient;
  const Real m = with.beta1 * moment1 + with.rest1 * g;
  const Real v = with.beta2 * moment2 + with.rest2 * (g * g);
  const Real step = with.rate * m / (std::sqrt(v * with.unbias2) + with.epsilon);
  moment1 = m;
  moment2 = v;
  master = with.keep * master - step;
}

}  // namespace longspan::backend
