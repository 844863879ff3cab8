#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/elementwise/dropout.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

template <typename T, bool kAligned>
struct Dropout {
  static constexpr int kCount = kPack<T>;
  using Loaded = Pack<T, kCount>;

  Rows<T> out;
  Rows<const T> x;
  const std::int32_t* numbers;
  Index columns;
  base::RandomStream stream;
  std::uint32_t threshold;
  Compute<T> scale;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return load_pack<kAligned, kCount>(x.at(row, column), left);
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> result;
    base::PhiloxBlock block{};
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      // A pack may begin within a block.
      if (k == 0 || (column + k) % kDropoutNeighbours == 0) {
        block = dropout_block(stream, numbers[row], columns, column + k);
      }
      const Compute<T> value = cuda::load(loaded.values[k]) * scale;
      result.values[k] = dropout_keeps(block, column + k, threshold) ? round_to<T>(value) : T{};
    }
    store_pack<kAligned>(out.at(row, column), result, left);
  }
};

}  // namespace

void CudaKernels::dropout(const Tensor& out, const Tensor& x, const Tensor& numbers,
                          const base::RandomStream& stream, double probability) {
  const Operation operation(*this, "dropout", out);
  check_dropout(out, x, numbers, probability);
  dispatch_float("dropout", "x", x, [&]<typename T>() {
    const Extents extents(x, /*dense=*/false);  // each row has a number
    with_alignment(extents.aligned({&out, &x}), [&]<bool kAligned>() {
      const Dropout<T, kAligned> body{{out.data<T>(), out.row_stride()},
                                      {x.data<T>(), x.row_stride()},
                                      numbers.data<std::int32_t>(),
                                      x.size(1),
                                      stream,
                                      dropout_threshold(probability),
                                      static_cast<Compute<T>>(1.0 / (1.0 - probability))};
      launch_packs(queue_, extents.rows, extents.columns, body);
    });
  });
}

}  // namespace longspan::backend::cuda
