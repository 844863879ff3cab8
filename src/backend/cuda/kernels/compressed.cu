// Gradients that are compressed along a direction.
#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/device.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/cuda/kernels/row_sum.h"
#include "backend/elementwise/adamw.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr Index kMostGroups = Index{1} << 20;

/// `lanes` neighbours of a warp, a power of two, share a product; they take one after another.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    project_kernel(Rows<T> out, Rows<const T> x, const Compute<T>* direction, Compute<T> scale,
                   Index count, Index groups, Index length, int lanes) {
  using Real = Compute<T>;
  const Index lane = threadIdx.x % lanes;
  const Index at_once = static_cast<Index>(gridDim.x) * kThreads / lanes;
  const Index own = (static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x) / lanes;
  // All lanes of a warp take part in every round's sums.
  for (Index round = 0; round < divide_up(count, at_once); ++round) {
    const Index number = round * at_once + own;
    Real sum = 0;
    if (number < count) {
      const T* from = x.at(number / groups, number % groups * length);
      for (Index j = lane; j < length; j += lanes) sum += load(from[j]) * direction[j];
    }
    for (int apart = lanes / 2; apart > 0; apart /= 2) {
      sum += __shfl_xor_sync(kAllLanes, sum, apart);
    }
    if (number < count && lane == 0) {
      *out.at(number / groups, number % groups) = round_to<T>(scale * sum);
    }
  }
}

template <typename Real>
__global__ void __launch_bounds__(kThreads)
    moments_kernel(Real* moment1, Real* moment2, const Real* gradient, Index count,
                   AdamWConstants<Real> constants) {
  const Index step = static_cast<Index>(gridDim.x) * kThreads;
  for (Index i = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    update_moments(moment1[i], moment2[i], gradient[i], constants);
  }
}

/// Moments are those of this update. Weight may be null.
template <typename Weight, typename Real>
__global__ void __launch_bounds__(kThreads)
    weights_kernel(Weight* weight, Real* master, const Real* moment1, const Real* moment2,
                   const Real* direction, Index elements, Index length,
                   AdamWConstants<Real> constants) {
  const Index step = static_cast<Index>(gridDim.x) * kThreads;
  for (Index i = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x; i < elements; i += step) {
    const Index number = i / length;
    compressed_update(master[i], constants.rate * moment1[number],
                      std::sqrt(moment2[number] * constants.unbias2), direction[i % length],
                      constants);
    if (weight != nullptr) weight[i] = round_to<Weight>(master[i]);
  }
}

unsigned groups_of(Index threads) {
  return static_cast<unsigned>(std::min(divide_up(threads, Index{kThreads}), kMostGroups));
}

}  // namespace

void CudaKernels::project(const Tensor& out, const Tensor& x, const Tensor& direction,
                          double scale) {
  const Operation operation(*this, "project", out);
  check_project(out, x, direction);
  const Index length = direction.size(0);
  if (out.elements() == 0) return;
  const auto lanes = static_cast<int>(std::min(Index{kLanes}, power_of_two(length)));
  dispatch_float("project", "x", x, [&]<typename T>() {
    const Rows<T> to{out.data<T>(), out.row_stride()};
    const Rows<const T> from{x.data<T>(), x.row_stride()};
    LONGSPAN_LAUNCH(project_kernel<T>, groups_of(out.elements() * lanes), kThreads, 0,
                    queue_.stream, to, from, direction.data<Compute<T>>(),
                    static_cast<Compute<T>>(scale), out.elements(), out.size(1), length, lanes);
  });
}

void CudaKernels::adamw_compressed(const Tensor& weight, const Tensor& master,
                                   const Tensor& moment1, const Tensor& moment2,
                                   const Tensor& gradient, const Tensor& direction,
                                   const AdamWOptions& options) {
  const Operation operation(*this, "adamw_compressed", master);
  check_adamw_compressed(weight, master, moment1, moment2, gradient, direction, options);
  if (master.elements() == 0) return;
  const Tensor& read = weight.defined() ? weight : master;
  dispatch_float("adamw_compressed", "weight", read, [&]<typename Weight>() {
    using Real = Compute<Weight>;
    const AdamWConstants<Real> constants(options);
    LONGSPAN_LAUNCH(moments_kernel<Real>, groups_of(gradient.size(0)), kThreads, 0, queue_.stream,
                    moment1.data<Real>(), moment2.data<Real>(), gradient.data<Real>(),
                    gradient.size(0), constants);
    LONGSPAN_LAUNCH((weights_kernel<Weight, Real>), groups_of(master.elements()), kThreads, 0,
                    queue_.stream, weight.defined() ? weight.data<Weight>() : nullptr,
                    master.data<Real>(), moment1.data<Real>(), moment2.data<Real>(),
                    direction.data<Real>(), master.elements(), direction.size(0), constants);
  });
}

}  // namespace longspan::backend::cuda
