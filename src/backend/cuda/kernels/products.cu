// Products element by element.
#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

template <typename T, bool kAligned>
struct AddProduct {
  static constexpr int kCount = kPack<T>;
  struct Loaded {
    Pack<T, kCount> x;
    Pack<T, kCount> y;
    Pack<T, kCount> gate;
  };

  Rows<T> out;
  Rows<const T> x;  // its data may be null
  Rows<const T> y;
  const T* gate;

  __device__ Loaded load(Index row, Index column, Index left) const {
    Loaded loaded = {};
    if (x.data != nullptr) loaded.x = load_pack<kAligned, kCount>(x.at(row, column), left);
    loaded.y = load_pack<kAligned, kCount>(y.at(row, column), left);
    loaded.gate = load_pack<kAligned, kCount>(gate + column, left);
    return loaded;
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> result;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const Compute<T> factor = cuda::load(loaded.gate.values[k]);
      const Compute<T> value = cuda::load(loaded.y.values[k]);
      const Compute<T> sum = x.data == nullptr
                                 ? factor * value
                                 : std::fma(factor, value, cuda::load(loaded.x.values[k]));
      result.values[k] = round_to<T>(sum);
    }
    store_pack<kAligned>(out.at(row, column), result, left);
  }
};

template <typename T, bool kAligned>
struct Multiply {
  static constexpr int kCount = kPack<T>;
  struct Loaded {
    Pack<T, kCount> a;
    Pack<T, kCount> b;
  };

  Rows<T> out;
  Rows<const T> a;
  Rows<const T> b;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return {load_pack<kAligned, kCount>(a.at(row, column), left),
            load_pack<kAligned, kCount>(b.at(row, column), left)};
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> result;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      result.values[k] =
          round_to<T>(cuda::load(loaded.a.values[k]) * cuda::load(loaded.b.values[k]));
    }
    store_pack<kAligned>(out.at(row, column), result, left);
  }
};

}  // namespace

void CudaKernels::add_product(const Tensor& out, const Tensor& x, const Tensor& y,
                              const Tensor& gate) {
  const Operation operation(*this, "add_product", out);
  check_add_product(out, x, y, gate);
  dispatch_float("add_product", "out", out, [&]<typename T>() {
    const bool aligned = packs_aligned(out) && (!x.defined() || packs_aligned(x)) &&
                         packs_aligned(y) && vector_aligned(gate);
    with_alignment(aligned, [&]<bool kAligned>() {
      AddProduct<T, kAligned> body{
          {out.data<T>(), out.row_stride()}, {}, {y.data<T>(), y.row_stride()}, gate.data<T>()};
      if (x.defined()) body.x = {x.data<T>(), x.row_stride()};
      launch_packs(queue_, out.size(0), out.size(1), body);
    });
  });
}

void CudaKernels::multiply(const Tensor& out, const Tensor& a, const Tensor& b) {
  const Operation operation(*this, "multiply", out);
  check_multiply(out, a, b);
  dispatch_float("multiply", "out", out, [&]<typename T>() {
    const Extents extents(out, out.is_dense() && a.is_dense() && b.is_dense());
    with_alignment(extents.aligned({&out, &a, &b}), [&]<bool kAligned>() {
      const Multiply<T, kAligned> body{{out.data<T>(), out.row_stride()},
                                       {a.data<T>(), a.row_stride()},
                                       {b.data<T>(), b.row_stride()}};
      launch_packs(queue_, extents.rows, extents.columns, body);
    });
  });
}

}  // namespace longspan::backend::cuda
