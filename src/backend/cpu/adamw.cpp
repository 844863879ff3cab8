#include "backend/elementwise/adamw.h"
#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

/// One pass: the update is bound by memory.
template <typename Weight, typename Real>
void update_run(Weight* weight, Real* master, Real* moment1, Real* moment2, const Real* gradient,
                Index length, const AdamWConstants<Real>& with) {
#pragma omp simd
  for (Index i = 0; i < length; ++i) {
    adamw_update(master[i], moment1[i], moment2[i], gradient[i], with);
    if constexpr (!std::is_void_v<Weight>) weight[i] = round_to<Weight>(master[i]);
  }
}

/// Weight is void where the master is what the forward reads.
template <typename Weight, typename Real>
void run(const Tensor& weight, const Tensor& master, const Tensor& moment1, const Tensor& moment2,
         const Tensor& gradient, const AdamWOptions& options) {
  const AdamWConstants<Real> constants(options);
  for_each_span(master, true, [&](const Span& span) {
    Weight* rounded = nullptr;
    if constexpr (!std::is_void_v<Weight>) rounded = weight.data<Weight>() + span.begin;
    update_run(rounded, master.data<Real>() + span.begin, moment1.data<Real>() + span.begin,
               moment2.data<Real>() + span.begin, gradient.data<Real>() + span.begin, span.length,
               constants);
  });
}

}  // namespace

void CpuBackend::adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                       const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options) {
  const Operation operation(*this, "adamw", master);
  check_adamw(weight, master, moment1, moment2, gradient, options);
  dispatch_float("adamw", "master", master, [&]<typename Real>() {
    if constexpr (std::is_same_v<Compute<Real>, Real>) {
      if (!weight.defined()) {
        return run<void, Real>(weight, master, moment1, moment2, gradient, options);
      }
      dispatch_float("adamw", "weight", weight, [&]<typename Weight>() {
        if constexpr (std::is_same_v<Compute<Weight>, Real>) {
          run<Weight, Real>(weight, master, moment1, moment2, gradient, options);
        }
      });
    }
  });
}

}  // namespace longspan::backend::cpu
