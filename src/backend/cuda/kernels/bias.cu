#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/cuda/kernels/row_shares.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

template <typename T, bool kAligned>
struct AddBias {
  static constexpr int kCount = kPack<T>;
  struct Loaded {
    Pack<T, kCount> out;
    Pack<T, kCount> bias;
  };

  Rows<T> out;
  const T* bias;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return {load_pack<kAligned, kCount>(static_cast<const T*>(out.at(row, column)), left),
            load_pack<kAligned, kCount>(bias + column, left)};
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> sum;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      sum.values[k] =
          round_to<T>(cuda::load(loaded.out.values[k]) + cuda::load(loaded.bias.values[k]));
    }
    store_pack<kAligned>(out.at(row, column), sum, left);
  }
};

constexpr Index kShareThreads = 128;

/// Every block of rows (threadIdx.y, blockIdx.x) sums its share; a thread (threadIdx.x, blockIdx.y)
/// keeps the sums of one pack of columns in registers, several of its rows on their way at once.
template <typename T, bool kAligned>
__global__ void __launch_bounds__(kShareThreads)
    sum_shares(Compute<T>* shares, Rows<const T> dy, RowShares layout, Index rows, Index width) {
  constexpr int kCount = kPack<T>;
  const Index share = static_cast<Index>(blockIdx.x) * blockDim.y + threadIdx.y;
  const Index pack = static_cast<Index>(blockIdx.y) * blockDim.x + threadIdx.x;
  const Index column = pack * kCount;
  if (share >= layout.blocks || column >= width) return;
  const Index begin = share * layout.rows_each;
  const Index end = std::min(rows, begin + layout.rows_each);
  Compute<T> sums[kCount] = {};
  LONGSPAN_UNROLL_BY(8)
  for (Index row = begin; row < end; ++row) {
    const auto terms = load_pack<kAligned, kCount>(dy.at(row, column), width - column);
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) sums[k] += load(terms.values[k]);
  }
  const Index all_packs = divide_up(width, kCount);
  Compute<T>* to = shares + share * layout.pitch() + pack;
  LONGSPAN_UNROLL
  for (int k = 0; k < kCount; ++k) to[k * all_packs] = sums[k];
}

template <typename T>
void sum_rows(const Queue& queue, const Tensor& dbias, const Tensor& dy) {
  using Real = Compute<T>;
  const Index rows = dy.size(0);
  const Index width = dy.size(1);
  const RowShares layout = row_shares(rows, width, /*vectors=*/1);
  const Tensor scratch =
      queue.backend->allocate({layout.elements()}, dbias.dtype(), MemoryTag::kWorkspace);
  const Index packs = divide_up(width, kPack<T>);
  // Narrow shares share a block of threads.
  const Index across = std::min<Index>(kShareThreads, power_of_two(packs));
  const Index down = std::min(kShareThreads / across, power_of_two(layout.blocks));
  const dim3 block(static_cast<unsigned>(across), static_cast<unsigned>(down));
  const dim3 grid(static_cast<unsigned>(divide_up(layout.blocks, down)),
                  static_cast<unsigned>(divide_up(packs, across)));
  const Rows<const T> from{dy.data<T>(), dy.row_stride()};
  with_alignment(packs_aligned(dy), [&]<bool kAligned>() {
    LONGSPAN_LAUNCH((sum_shares<T, kAligned>), grid, block, 0, queue.stream, scratch.data<Real>(),
                    from, layout, rows, width);
  });
  launch_add_shares<Real>(queue, dbias.data<Real>(), nullptr, scratch.data<Real>(), layout, width,
                          kPack<T>);
}

}  // namespace

void CudaKernels::add_bias(const Tensor& out, const Tensor& bias) {
  const Operation operation(*this, "add_bias", out);
  check_add_bias(out, bias);
  dispatch_float("add_bias", "out", out, [&]<typename T>() {
    with_alignment(packs_aligned(out) && vector_aligned(bias), [&]<bool kAligned>() {
      const AddBias<T, kAligned> body{{out.data<T>(), out.row_stride()}, bias.data<T>()};
      launch_packs(queue_, out.size(0), out.size(1), body);
    });
  });
}

void CudaKernels::bias_backward(const Tensor& dbias, const Tensor& dy) {
  const Operation operation(*this, "bias_backward", dbias);
  check_bias_backward(dbias, dy);
  if (dy.elements() == 0) return;
  dispatch_float("bias_backward", "dy", dy, [&]<typename T>() { sum_rows<T>(queue_, dbias, dy); });
}

}  // namespace longspan::backend::cuda
