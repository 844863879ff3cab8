#include "backend/checks.h"
#include "backend/cuda/error.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/device.h"
#include "backend/cuda_scratch.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 256;
/// Packs that a thread loads before it adds the first.
constexpr int kInFlight = 4;

struct Value {
  __device__ double operator()(double value) const { return value; }
};
struct Square {
  __device__ double operator()(double value) const { return value * value; }
};

/// The sum over the block's threads, in a fixed order, for thread 0.
__device__ double block_sum(double value) {
  __shared__ double sums[kThreads];
  sums[threadIdx.x] = value;
  __syncthreads();
  for (int step = kThreads / 2; step > 0; step /= 2) {
    if (static_cast<int>(threadIdx.x) < step) sums[threadIdx.x] += sums[threadIdx.x + step];
    __syncthreads();
  }
  return sums[0];
}

/// A run of consecutive elements. Which thread adds which of them, and when, does not depend on
/// whether packs can be loaded whole.
template <typename T, typename Term>
__device__ double run_sum(const T* run, Index length, const Term& term) {
  constexpr int kCount = kPack<T>;
  constexpr Index kStride = Index{kThreads} * kCount;
  const bool packed = reinterpret_cast<std::uintptr_t>(run) % 16 == 0;
  double sum = 0;
  Index begin = static_cast<Index>(threadIdx.x) * kCount;
  for (; packed && begin + (kInFlight - 1) * kStride + kCount <= length;
       begin += kInFlight * kStride) {
    Pack<T, kCount> packs[kInFlight];
    LONGSPAN_UNROLL
    for (int i = 0; i < kInFlight; ++i) packs[i] = load_pack<kCount>(run + begin + i * kStride);
    LONGSPAN_UNROLL
    for (int i = 0; i < kInFlight; ++i) {
      LONGSPAN_UNROLL
      for (int j = 0; j < kCount; ++j) sum += term(static_cast<double>(load(packs[i].values[j])));
    }
  }
  for (; begin < length; begin += kStride) {
    for (Index i = begin; i < begin + kCount && i < length; ++i) {
      sum += term(static_cast<double>(load(run[i])));
    }
  }
  return sum;
}

/// One piece a block.
template <typename T, typename Term>
__global__ void piece_kernel(double* sums, const T* in, Index row_stride, SumPieces pieces,
                             Term term) {
  const Index piece = blockIdx.x;
  const Index begin = piece % pieces.cuts * kSumElements;
  const Index rest = pieces.columns - begin;
  const Index length = rest < kSumElements ? rest : kSumElements;
  const Index first = piece / pieces.cuts * pieces.rows_each;
  double sum = 0;
  for (Index row = first; row < first + pieces.rows_each && row < pieces.rows; ++row) {
    sum += run_sum(in + row * row_stride + begin, length, term);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[piece] = sum;
}

/// One block: the sum of all pieces.
__global__ void total_kernel(double* total, const double* sums, Index count) {
  double sum = 0;
  for (Index i = threadIdx.x; i < count; i += kThreads) sum += sums[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}

template <typename Term>
double ordered_sum(const char* operation, const Queue& queue, const Tensor& in, const Term& term) {
  double result = 0;
  dispatch_float(operation, "in", in, [&]<typename T>() {
    if (in.elements() == 0) return;
    const SumPieces pieces(in);
    const Index count = pieces.count();
    const Tensor scratch = queue.backend->allocate({static_cast<Index>(sum_scratch_bytes(in))},
                                                   base::DType::kUInt8, MemoryTag::kWorkspace);
    auto* total = static_cast<double*>(scratch.raw());
    double* sums = total + 1;
    LONGSPAN_LAUNCH((piece_kernel<T, Term>), static_cast<unsigned>(count), kThreads, 0,
                    queue.stream, sums, in.data<T>(), in.row_stride(), pieces, term);
    LONGSPAN_LAUNCH(total_kernel, 1, kThreads, 0, queue.stream, total, sums, count);
    check(cudaMemcpyAsync(&result, total, sizeof(result), cudaMemcpyDeviceToHost, queue.stream),
          "cudaMemcpyAsync of a sum");
    check(cudaStreamSynchronize(queue.stream), "cudaStreamSynchronize for a sum");
  });
  return result;
}

}  // namespace

double CudaKernels::sum(const Tensor& in) {
  const Operation operation(*this, "sum", in);
  return ordered_sum("sum", queue_, in, Value{});
}

double CudaKernels::sum_of_squares(const Tensor& in) {
  const Operation operation(*this, "sum_of_squares", in);
  return ordered_sum("sum_of_squares", queue_, in, Square{});
}

}  // namespace longspan::backend::cuda
