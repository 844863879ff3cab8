// Rows that weights' gradients are made of when not all are multiplied.
#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/device.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/elementwise/row_norm.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr Index kMostBlocks = Index{1} << 20;

template <typename Real>
__device__ Real warp_max(Real value) {
  LONGSPAN_UNROLL
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
    const Real other = __shfl_xor_sync(kAllLanes, value, lanes);
    value = value < other ? other : value;
  }
  return value;
}

/// A row for each warp; the second reading of it is from the cache.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    norm_kernel(Compute<T>* norms, Rows<const T> x, Index count, Index width) {
  using Real = Compute<T>;
  const Index lane = threadIdx.x % kLanes;
  const Index at_once = static_cast<Index>(gridDim.x) * (kThreads / kLanes);
  const Index first = (static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
  for (Index row = first; row < count; row += at_once) {
    const T* from = x.at(row, 0);
    Real most = 0;
    for (Index j = lane; j < width; j += kLanes) {
      const Real size = std::abs(Real(load(from[j])));
      most = most < size ? size : most;
    }
    most = warp_max(most);
    Real sum = 0;
    for (Index j = lane; j < width; j += kLanes) sum += norm_term(Real(load(from[j])), most);
    sum = warp_sum(sum);
    if (lane == 0) norms[row] = norm_of(sum, most);
  }
}

template <typename T, bool kAligned>
struct ScaleRows {
  static constexpr int kCount = kPack<T>;
  using Loaded = Pack<T, kCount>;

  Rows<T> out;
  const Compute<T>* factors;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return load_pack<kAligned, kCount>(static_cast<const T*>(out.at(row, column)), left);
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> result;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      result.values[k] = round_to<T>(cuda::load(loaded.values[k]) * factors[row]);
    }
    store_pack<kAligned>(out.at(row, column), result, left);
  }
};

}  // namespace

void CudaKernels::row_norms(const Tensor& norms, const Tensor& x) {
  const Operation operation(*this, "row_norms", x);
  check_row_norms(norms, x);
  const Index count = x.size(0);
  if (count == 0) return;
  const auto blocks =
      static_cast<unsigned>(std::min(divide_up(count, Index{kThreads / kLanes}), kMostBlocks));
  dispatch_float("row_norms", "x", x, [&]<typename T>() {
    const Rows<const T> from{x.data<T>(), x.row_stride()};
    LONGSPAN_LAUNCH(norm_kernel<T>, blocks, kThreads, 0, queue_.stream, norms.data<Compute<T>>(),
                    from, count, x.size(1));
  });
}

void CudaKernels::scale_rows(const Tensor& out, const Tensor& factors) {
  const Operation operation(*this, "scale_rows", out);
  check_scale_rows(out, factors);
  dispatch_float("scale_rows", "out", out, [&]<typename T>() {
    const Extents extents(out, /*dense=*/false);  // each row has a factor
    with_alignment(extents.aligned({&out}), [&]<bool kAligned>() {
      const ScaleRows<T, kAligned> body{{out.data<T>(), out.row_stride()},
                                        factors.data<Compute<T>>()};
      launch_packs(queue_, extents.rows, extents.columns, body);
    });
  });
}

}  // namespace longspan::backend::cuda
