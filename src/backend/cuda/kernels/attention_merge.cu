#include <limits>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/device.h"
#include "backend/elementwise/attention_merge.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
struct Arguments {
  using Real = Compute<T>;

  Real* out;
  Real* lse;
  const T* block_out;
  const Real* block_lse;
  Index out_stride, lse_stride, block_out_stride, block_lse_stride;
  Index pairs;  ///< tokens x heads
  Index heads;
  Index head_dim;
};

/// `lanes` threads of a warp merge one token and head: the first of them alone touches the
/// log-sum-exp, so none reads what another has already replaced.
template <typename T, int kCount>
__global__ void merge_kernel(Arguments<T> with, int lanes) {
  using Real = Compute<T>;
  constexpr Real kNothing = -std::numeric_limits<Real>::infinity();
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const Index pair =
      (static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x)) / lanes;
  const bool inside = pair < with.pairs;  // all lanes of the warp take part in the shuffles
  const Index token = inside ? pair / with.heads : 0;
  const Index head = inside ? pair % with.heads : 0;
  Real* lse = with.lse + head * with.lse_stride + token;
  Real whole = 0;
  Real block = kNothing;
  if (inside && lane == 0) {
    whole = *lse;
    block = with.block_lse[head * with.block_lse_stride + token];
  }
  whole = __shfl_sync(kAllLanes, whole, 0, lanes);
  block = __shfl_sync(kAllLanes, block, 0, lanes);
  if (block == kNothing) return;
  const MergeWeights<Real> weights(whole, block);
  Real* to = with.out + token * with.out_stride + head * with.head_dim;
  const T* from = with.block_out + token * with.block_out_stride + head * with.head_dim;
  for (Index d = Index{lane} * kCount; d < with.head_dim; d += Index{lanes} * kCount) {
    auto sums = load_pack<kCount>(to + d);
    const auto more = load_pack<kCount>(from + d);
    LONGSPAN_UNROLL
    for (int i = 0; i < kCount; ++i)
      sums.values[i] = weights.merge(sums.values[i], load(more.values[i]));
    store_pack(to + d, sums);
  }
  if (lane == 0) *lse = weights.lse;
}

/// The least power of two that gives every lane one pack, at most a warp.
int lanes_for(Index packs) {
  int lanes = 1;
  while (lanes < kLanes && lanes < packs) lanes *= 2;
  return lanes;
}

template <typename T>
void run(const Queue& queue, const Tensor& out, const Tensor& lse, const Tensor& block_out,
         const Tensor& block_lse) {
  using Real = Compute<T>;
  const Arguments<T> with{out.data<Real>(),
                          lse.data<Real>(),
                          block_out.data<T>(),
                          block_lse.data<Real>(),
                          out.row_stride(),
                          lse.row_stride(),
                          block_out.row_stride(),
                          block_lse.row_stride(),
                          out.size(0) * out.size(1),
                          out.size(1),
                          out.size(2)};
  if (out.elements() == 0) return;
  constexpr int kCount = kPackOf<T, Real>;
  const bool packed = out.size(2) % kCount == 0 && packs_aligned(out) && packs_aligned(block_out);
  const int lanes = lanes_for(packed ? out.size(2) / kCount : out.size(2));
  const auto blocks = static_cast<unsigned>(divide_up(with.pairs * lanes, kThreads));
  if (packed) {
    LONGSPAN_LAUNCH((merge_kernel<T, kCount>), blocks, kThreads, 0, queue.stream, with, lanes);
  } else {
    LONGSPAN_LAUNCH((merge_kernel<T, 1>), blocks, kThreads, 0, queue.stream, with, lanes);
  }
}

}  // namespace

void CudaKernels::attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                                  const Tensor& block_lse) {
  const Operation operation(*this, "attention_merge", out);
  check_attention_merge(out, lse, block_out, block_lse);
  dispatch_float("attention_merge", "block_out", block_out,
                 [&]<typename T>() { run<T>(queue_, out, lse, block_out, block_lse); });
}

}  // namespace longspan::backend::cuda
