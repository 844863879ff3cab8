#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

template <typename T, bool kAligned>
struct Scale {
  static constexpr int kCount = kPack<T>;
  using Loaded = Pack<T, kCount>;

  Rows<T> out;
  Compute<T> factor;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return load_pack<kAligned, kCount>(out.at(row, column), left);
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> result;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      result.values[k] = round_to<T>(cuda::load(loaded.values[k]) * factor);
    }
    store_pack<kAligned>(out.at(row, column), result, left);
  }
};

}  // namespace

void CudaKernels::scale(const Tensor& out, double factor) {
  const Operation operation(*this, "scale", out);
  check_scale(out);
  dispatch_float("scale", "out", out, [&]<typename T>() {
    const Extents extents(out, out.is_dense());
    with_alignment(extents.aligned({&out}), [&]<bool kAligned>() {
      const Scale<T, kAligned> body{{out.data<T>(), out.row_stride()},
                                    static_cast<Compute<T>>(factor)};
      launch_packs(queue_, extents.rows, extents.columns, body);
    });
  });
}

}  // namespace longspan::backend::cuda
