#include "backend/cuda/kernels/gelu.h"

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

template <typename T, bool kAligned>
struct Forward {
  static constexpr int kCount = kPack<T>;
  using Loaded = Pack<T, kCount>;

  Rows<T> out;
  Rows<const T> x;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return load_pack<kAligned, kCount>(x.at(row, column), left);
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> result;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const Compute<T> value = cuda::load(loaded.values[k]);
      result.values[k] = round_to<T>(value * gelu_sigmoid<T>(gelu_bounded(value)));
    }
    store_pack<kAligned>(out.at(row, column), result, left);
  }
};

template <typename T, bool kAligned>
struct Backward {
  static constexpr int kCount = kPack<T>;
  struct Loaded {
    Pack<T, kCount> dout;
    Pack<T, kCount> x;
  };

  Rows<T> dx;
  Rows<T> out;  // its data may be null
  Rows<const T> dout;
  Rows<const T> x;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return {load_pack<kAligned, kCount>(dout.at(row, column), left),
            load_pack<kAligned, kCount>(x.at(row, column), left)};
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> result;
    Pack<T, kCount> gradient;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const Compute<T> upstream = cuda::load(loaded.dout.values[k]);
      const Compute<T> value = cuda::load(loaded.x.values[k]);
      const Compute<T> bounded = gelu_bounded(value);
      const Compute<T> s = gelu_sigmoid<T>(bounded);
      const Compute<T> slope = gelu_slope(bounded);
      result.values[k] = round_to<T>(value * s);
      gradient.values[k] = round_to<T>(gelu_gradient(upstream, bounded, s, slope));
    }
    if (out.data != nullptr) store_pack<kAligned>(out.at(row, column), result, left);
    store_pack<kAligned>(dx.at(row, column), gradient, left);
  }
};

}  // namespace

void CudaKernels::gelu_forward(const Tensor& out, const Tensor& x) {
  const Operation operation(*this, "gelu_forward", out);
  check_gelu_forward(out, x);
  dispatch_float("gelu_forward", "x", x, [&]<typename T>() {
    const Extents extents(x, out.is_dense() && x.is_dense());
    with_alignment(extents.aligned({&out, &x}), [&]<bool kAligned>() {
      const Forward<T, kAligned> body{{out.data<T>(), out.row_stride()},
                                      {x.data<T>(), x.row_stride()}};
      launch_packs(queue_, extents.rows, extents.columns, body);
    });
  });
}

void CudaKernels::gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout,
                                const Tensor& x) {
  const Operation operation(*this, "gelu_backward", dx);
  check_gelu_backward(dx, out, dout, x);
  dispatch_float("gelu_backward", "x", x, [&]<typename T>() {
    const bool dense =
        dx.is_dense() && (!out.defined() || out.is_dense()) && dout.is_dense() && x.is_dense();
    const Extents extents(x, dense);
    const bool aligned = extents.aligned({&dx, out.defined() ? &out : &dx, &dout, &x});
    with_alignment(aligned, [&]<bool kAligned>() {
      Backward<T, kAligned> body{{dx.data<T>(), dx.row_stride()},
                                 {},
                                 {dout.data<T>(), dout.row_stride()},
                                 {x.data<T>(), x.row_stride()}};
      if (out.defined()) body.out = {out.data<T>(), out.row_stride()};
      launch_packs(queue_, extents.rows, extents.columns, body);
    });
  });
}

}  // namespace longspan::backend::cuda
