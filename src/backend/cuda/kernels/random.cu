#include "backend/checks.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/device.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 256;

/// One element a thread; bound by double arithmetic, and run once in a job.
template <typename T>
__global__ void normal_kernel(T* out, Index row_stride, Index columns, Index elements,
                              base::RandomStream stream, double deviation, std::uint64_t first) {
  const Index i = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= elements) return;
  const double normal = base::to_normal(stream.block(first + static_cast<std::uint64_t>(i)));
  out[i / columns * row_stride + i % columns] = round_to<T>(deviation * normal);
}

}  // namespace

void CudaKernels::random_normal(const Tensor& out, const base::RandomStream& stream,
                                double deviation, std::uint64_t first_element) {
  const Operation operation(*this, "random_normal", out);
  dispatch_float("random_normal", "out", out, [&]<typename T>() {
    const Index elements = out.elements();
    if (elements == 0) return;
    LONGSPAN_LAUNCH(normal_kernel<T>, static_cast<unsigned>(divide_up(elements, kThreads)),
                    kThreads, 0, queue_.stream, out.data<T>(), out.row_stride(), out.row_elements(),
                    elements, stream, deviation, first_element);
  });
}

}  // namespace longspan::backend::cuda
