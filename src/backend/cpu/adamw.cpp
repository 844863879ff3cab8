#include "backend/elementwise/adamw.h"
#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

/// One pass: the update is bound by memory. Weight is void where the master is what the forward
/// reads.
template <typename Weight, typename Real, typename Moment, typename Kept>
void run(const Tensor& weight, const Tensor& master, const Tensor& moment1, const Tensor& moment2,
         const Tensor& gradient, const AdamWOptions& options, const Kept& kept) {
  const AdamWConstants<Real> constants(options);
  for_each_span(master, true, [&](const Span& span) {
    Weight* rounded = nullptr;
    if constexpr (!std::is_void_v<Weight>) rounded = weight.data<Weight>() + span.begin;
    Real* to = master.data<Real>() + span.begin;
    Moment* m = moment1.data<Moment>() + span.begin;
    Moment* v = moment2.data<Moment>() + span.begin;
    const Real* from = gradient.data<Real>() + span.begin;
#pragma omp simd
    for (Index i = 0; i < span.length; ++i) {
      adamw_update(to[i], m[i], v[i], from[i], constants, kept, span.begin + i);
      if constexpr (!std::is_void_v<Weight>) rounded[i] = round_to<Weight>(to[i]);
    }
  });
}

template <typename Weight, typename Real>
void run_moments(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                 const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options) {
  if (!options.rounding) {
    return run<Weight, Real, Real>(weight, master, moment1, moment2, gradient, options,
                                   ExactMoments());
  }
  if constexpr (std::is_same_v<Real, float>) {
    run<Weight, Real, base::BFloat16>(weight, master, moment1, moment2, gradient, options,
                                      RoundedMoments{*options.rounding, options.first_element});
  }
}

}  // namespace

void CpuBackend::adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                       const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options) {
  const Operation operation(*this, "adamw", master);
  check_adamw(weight, master, moment1, moment2, gradient, options);
  dispatch_float("adamw", "master", master, [&]<typename Real>() {
    if constexpr (std::is_same_v<Compute<Real>, Real>) {
      if (!weight.defined()) {
        return run_moments<void, Real>(weight, master, moment1, moment2, gradient, options);
      }
      dispatch_float("adamw", "weight", weight, [&]<typename Weight>() {
        if constexpr (std::is_same_v<Compute<Weight>, Real>) {
          run_moments<Weight, Real>(weight, master, moment1, moment2, gradient, options);
        }
      });
    }
  });
}

}  // namespace longspan::backend::cpu
