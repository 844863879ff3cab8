// Gradients that are compressed along a direction.
#include <cmath>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/elementwise/adamw.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

template <typename T>
Compute<T> product(const T* x, const Compute<T>* direction, Index length) {
  Compute<T> sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index j = 0; j < length; ++j) sum += load(x[j]) * direction[j];
  return sum;
}

/// Weight is void where the master is what the forward reads.
template <typename Weight, typename Real>
void run(const Tensor& weight, const Tensor& master, const Tensor& moment1, const Tensor& moment2,
         const Tensor& gradient, const Tensor& direction, const AdamWOptions& options) {
  const AdamWConstants<Real> constants(options);
  const Index length = direction.size(0);
  const Real* const v = direction.data<Real>();
  parallel_for(gradient.size(0), length, [&](Index i) {
    Real& mean = moment1.data<Real>()[i];
    Real& square = moment2.data<Real>()[i];
    update_moments(mean, square, gradient.data<Real>()[i], constants);
    const Real step = constants.rate * mean;
    const Real root = std::sqrt(square * constants.unbias2);
    Real* const to = master.data<Real>() + i * length;
    Weight* rounded = nullptr;
    if constexpr (!std::is_void_v<Weight>) rounded = weight.data<Weight>() + i * length;
#pragma omp simd
    for (Index j = 0; j < length; ++j) {
      compressed_update(to[j], step, root, v[j], constants);
      if constexpr (!std::is_void_v<Weight>) rounded[j] = round_to<Weight>(to[j]);
    }
  });
}

}  // namespace

void CpuBackend::project(const Tensor& out, const Tensor& x, const Tensor& direction,
                         double scale) {
  const Operation operation(*this, "project", out);
  check_project(out, x, direction);
  const Index groups = out.size(1);
  const Index length = direction.size(0);
  dispatch_float("project", "x", x, [&]<typename T>() {
    using Real = Compute<T>;
    const Real* const v = direction.data<Real>();
    const auto factor = static_cast<Real>(scale);
    parallel_for(x.size(0), x.size(1), [&](Index row) {
      const T* const from = x.data<T>() + row * x.row_stride();
      T* const to = out.data<T>() + row * out.row_stride();
      for (Index g = 0; g < groups; ++g) {
        to[g] = round_to<T>(factor * product(from + g * length, v, length));
      }
    });
  });
}

void CpuBackend::adamw_compressed(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                                  const Tensor& moment2, const Tensor& gradient,
                                  const Tensor& direction, const AdamWOptions& options) {
  const Operation operation(*this, "adamw_compressed", master);
  check_adamw_compressed(weight, master, moment1, moment2, gradient, direction, options);
  dispatch_float("adamw_compressed", "master", master, [&]<typename Real>() {
    if constexpr (std::is_same_v<Compute<Real>, Real>) {
      if (!weight.defined()) {
        return run<void, Real>(weight, master, moment1, moment2, gradient, direction, options);
      }
      dispatch_float("adamw_compressed", "weight", weight, [&]<typename Weight>() {
        if constexpr (std::is_same_v<Compute<Weight>, Real>) {
          run<Weight, Real>(weight, master, moment1, moment2, gradient, direction, options);
        }
      });
    }
  });
}

}  // namespace longspan::backend::cpu
