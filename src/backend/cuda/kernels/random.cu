#include "backend/checks.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/device.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 256;

/// What an element's own bits are made into.
struct Normal {
  double deviation;
  __device__ double operator()(const base::PhiloxBlock& block) const {
    return deviation * base::to_normal(block);
  }
};

struct Uniform {
  double bound;
  __device__ double operator()(const base::PhiloxBlock& block) const {
    return bound * (2.0 * base::to_unit(base::bits_of(block, 0)) - 1.0);
  }
};

/// One element a thread; bound by double arithmetic, and run once in a job.
template <typename T, typename Draw>
__global__ void random_kernel(T* out, Index row_stride, Index columns, Index elements,
                              base::RandomStream stream, Draw draw, std::uint64_t first) {
  const Index i = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= elements) return;
  const double value = draw(stream.block(first + static_cast<std::uint64_t>(i)));
  out[i / columns * row_stride + i % columns] = round_to<T>(value);
}

template <typename Draw>
void fill_randomly(const char* operation, const Queue& queue, const Tensor& out,
                   const base::RandomStream& stream, const Draw& draw, std::uint64_t first) {
  dispatch_float(operation, "out", out, [&]<typename T>() {
    const Index elements = out.elements();
    if (elements == 0) return;
    LONGSPAN_LAUNCH((random_kernel<T, Draw>), static_cast<unsigned>(divide_up(elements, kThreads)),
                    kThreads, 0, queue.stream, out.data<T>(), out.row_stride(), out.row_elements(),
                    elements, stream, draw, first);
  });
}

}  // namespace

void CudaKernels::random_normal(const Tensor& out, const base::RandomStream& stream,
                                double deviation, std::uint64_t first_element) {
  const Operation operation(*this, "random_normal", out);
  fill_randomly("random_normal", queue_, out, stream, Normal{deviation}, first_element);
}

void CudaKernels::random_uniform(const Tensor& out, const base::RandomStream& stream, double bound,
                                 std::uint64_t first_element) {
  const Operation operation(*this, "random_uniform", out);
  fill_randomly("random_uniform", queue_, out, stream, Uniform{bound}, first_element);
}

}  // namespace longspan::backend::cuda
