#include "backend/elementwise/nf4.h"

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/block_max.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/elementwise/dynamic_map.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = static_cast<int>(kNf4Scales);
static_assert(kThreads == kMapCodes);  // a thread makes a code's entry of a table
constexpr int kWarps = kThreads / kLanes;
/// A lane has a byte, the codes of two neighbours.
static_assert(kNf4Block == 2 * kLanes);
/// Enough for any GPU; what makes a table first has fewer, so that each uses it more often.
constexpr Index kMostGroups = 65535;
constexpr Index kMostWithTable = 2048;

/// The block that a warp codes, and its next ones.
__device__ Index first_block() {
  return static_cast<Index>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
}
__device__ Index block_step() { return static_cast<Index>(gridDim.x) * kWarps; }

template <typename T>
__device__ float element(const T* x, Index i, Index count) {
  return i < count ? static_cast<float>(load(x[i])) : 0.0F;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    quantize_kernel(std::uint8_t* codes, float* sizes, const T* x, Index count) {
  const Index lane = threadIdx.x % kLanes;
  const Index blocks = divide_up(count, kNf4Block);
  for (Index block = first_block(); block < blocks; block += block_step()) {
    const Index i = block * kNf4Block + 2 * lane;
    const float one = element(x, i, count);
    const float two = element(x, i + 1, count);
    float most = max(std::abs(one), std::abs(two));
    float taint = taint_of(one) + taint_of(two);
    LONGSPAN_UNROLL
    for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
      most = max(most, __shfl_xor_sync(kAllLanes, most, lanes));
      taint += __shfl_xor_sync(kAllLanes, taint, lanes);
    }
    const float inverse = inverse_of(most);
    if (i < count) {
      const int first = nf4_code(one * inverse);
      codes[i / 2] = static_cast<std::uint8_t>(first << 4 | nf4_code(two * inverse));
    }
    if (lane == 0) sizes[block] = most + taint;
  }
}

__global__ void __launch_bounds__(kThreads)
    quantize_sizes_kernel(std::uint8_t* codes, float* scales, const float* sizes, Index count,
                          float mean) {
  __shared__ MapTable table;
  __shared__ float of_warps[kWarps];
  table.fill_nearest(static_cast<int>(threadIdx.x));
  const Index blocks = divide_up(count, kNf4Scales);
  for (Index block = blockIdx.x; block < blocks; block += gridDim.x) {
    __syncthreads();  // the table is there, and what the block before used is free
    const Index i = block * kNf4Scales + threadIdx.x;
    const float distance = i < count ? sizes[i] - mean : 0.0F;
    const float most = block_max<kThreads>(std::abs(distance), of_warps);
    if (i < count) codes[i] = table.code_of(distance * inverse_of(most));
    if (threadIdx.x == 0) scales[block] = most;
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    dequantize_kernel(T* out, const std::uint8_t* codes, const std::uint8_t* size_codes,
                      const float* scales, Index count, float mean) {
  __shared__ MapTable table;
  __shared__ float values[kNf4Values];
  table.fill_nearest(static_cast<int>(threadIdx.x));
  if (threadIdx.x < kNf4Values) {
    values[threadIdx.x] = nf4_value(static_cast<int>(threadIdx.x));
  }
  __syncthreads();
  const Index lane = threadIdx.x % kLanes;
  const Index blocks = divide_up(count, kNf4Block);
  for (Index block = first_block(); block < blocks; block += block_step()) {
    const Index i = block * kNf4Block + 2 * lane;
    if (i >= count) continue;
    const float size = nf4_size(table.values[size_codes[block]], scales[block / kNf4Scales], mean);
    const int both = codes[i / 2];
    out[i] = round_to<T>(values[both >> 4] * size);
    if (i + 1 < count) out[i + 1] = round_to<T>(values[both & 15] * size);
  }
}

unsigned groups_of(Index count, Index each, Index most) {
  return static_cast<unsigned>(std::min(divide_up(count, each), most));
}

}  // namespace

void CudaKernels::nf4_quantize(const Tensor& codes, const Tensor& sizes, const Tensor& x) {
  const Operation operation(*this, "nf4_quantize", x);
  check_nf4_quantize(codes, sizes, x);
  if (x.elements() == 0) return;
  dispatch_float("nf4_quantize", "x", x, [&]<typename T>() {
    LONGSPAN_LAUNCH(quantize_kernel<T>, groups_of(sizes.elements(), kWarps, kMostGroups), kThreads,
                    0, queue_.stream, codes.data<std::uint8_t>(), sizes.data<float>(), x.data<T>(),
                    x.elements());
  });
}

void CudaKernels::nf4_quantize_sizes(const Tensor& codes, const Tensor& scales, const Tensor& sizes,
                                     float mean) {
  const Operation operation(*this, "nf4_quantize_sizes", sizes);
  check_nf4_quantize_sizes(codes, scales, sizes);
  if (sizes.elements() == 0) return;
  LONGSPAN_LAUNCH(quantize_sizes_kernel, groups_of(scales.elements(), 1, kMostWithTable), kThreads,
                  0, queue_.stream, codes.data<std::uint8_t>(), scales.data<float>(),
                  sizes.data<float>(), sizes.elements(), mean);
}

void CudaKernels::nf4_dequantize(const Tensor& out, const Tensor& codes, const Tensor& size_codes,
                                 const Tensor& scales, float mean) {
  const Operation operation(*this, "nf4_dequantize", out);
  check_nf4_dequantize(out, codes, size_codes, scales);
  if (out.elements() == 0) return;
  dispatch_float("nf4_dequantize", "out", out, [&]<typename T>() {
    LONGSPAN_LAUNCH(dequantize_kernel<T>, groups_of(size_codes.elements(), kWarps, kMostWithTable),
                    kThreads, 0, queue_.stream, out.data<T>(), codes.data<std::uint8_t>(),
                    size_codes.data<std::uint8_t>(), scales.data<float>(), out.elements(), mean);
  });
}

}  // namespace longspan::backend::cuda
