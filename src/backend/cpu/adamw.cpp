#include "backend/checks.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"

namespace longspan::backend::cpu {
namespace {

/// The constants of one update u, so that the loop holds one division and one root:
///   g = gradient_scale * gradient
///   m = beta1 m + (1 - beta1) g             v = beta2 v + (1 - beta2) g^2
///   master = master - lr decay master - lr (m / (1 - beta1^u)) / (sqrt(v / (1 - beta2^u)) + eps)
template <typename Real>
struct Constants {
  explicit Constants(const AdamWOptions& options)
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

/// One pass: the update is bound by memory.
template <typename Weight, typename Real>
void update_run(Weight* weight, Real* master, Real* moment1, Real* moment2, const Real* gradient,
                Index length, const Constants<Real>& with) {
#pragma omp simd
  for (Index i = 0; i < length; ++i) {
    const Real g = with.gradient_scale * gradient[i];
    const Real m = with.beta1 * moment1[i] + with.rest1 * g;
    const Real v = with.beta2 * moment2[i] + with.rest2 * (g * g);
    const Real step = with.rate * m / (std::sqrt(v * with.unbias2) + with.epsilon);
    const Real updated = with.keep * master[i] - step;
    moment1[i] = m;
    moment2[i] = v;
    master[i] = updated;
    if constexpr (!std::is_void_v<Weight>) weight[i] = round_to<Weight>(updated);
  }
}

/// Weight is void where the master is what the forward reads.
template <typename Weight, typename Real>
void run(const Tensor& weight, const Tensor& master, const Tensor& moment1, const Tensor& moment2,
         const Tensor& gradient, const AdamWOptions& options) {
  const Constants<Real> constants(options);
  for_each_span(master, true, [&](const Span& span) {
    Weight* rounded = nullptr;
    if constexpr (!std::is_void_v<Weight>) rounded = weight.data<Weight>() + span.begin;
    update_run(rounded, master.data<Real>() + span.begin, moment1.data<Real>() + span.begin,
               moment2.data<Real>() + span.begin, gradient.data<Real>() + span.begin, span.length,
               constants);
  });
}

}  // namespace

void adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1, const Tensor& moment2,
           const Tensor& gradient, const AdamWOptions& options) {
  expect_rank("adamw", "master", master, 1);
  const Shape shape{master.size(0)};
  if (options.update < 1) {
    contract_broken("adamw",
                    "update is " + std::to_string(options.update) + "; expected 1 or more");
  }
  dispatch_float("adamw", "master", master, [&]<typename Master>() {
    using Real = Compute<Master>;
    const base::DType dtype = compute_dtype(master.dtype());
    expect("adamw", "master", master, dtype, shape);
    expect("adamw", "moment1", moment1, dtype, shape);
    expect("adamw", "moment2", moment2, dtype, shape);
    expect("adamw", "gradient", gradient, dtype, shape);
    if (!weight.defined()) {
      return run<void, Real>(weight, master, moment1, moment2, gradient, options);
    }
    expect("adamw", "weight", weight, weight.dtype(), shape);
    dispatch_float("adamw", "weight", weight, [&]<typename Weight>() {
      if constexpr (std::is_same_v<Compute<Weight>, Real>) {
        run<Weight, Real>(weight, master, moment1, moment2, gradient, options);
      } else {
        contract_broken("adamw", "weight", weight, "the width of master, " + describe(master));
      }
    });
  });
}

}  // namespace longspan::backend::cpu
