#include "backend/elementwise/swiglu.h"

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/cuda/kernels/sigmoid.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

template <typename T, bool kAligned>
struct Forward {
  static constexpr int kCount = kPack<T>;
  struct Loaded {
    Pack<T, kCount> gate;
    Pack<T, kCount> up;
  };

  Rows<T> out;
  Rows<const T> gate;
  Rows<const T> up;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return {load_pack<kAligned, kCount>(gate.at(row, column), left),
            load_pack<kAligned, kCount>(up.at(row, column), left)};
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> product;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const Compute<T> g = cuda::load(loaded.gate.values[k]);
      const Compute<T> u = cuda::load(loaded.up.values[k]);
      product.values[k] = round_to<T>(gated(g, sigmoid<T>(g), u));
    }
    store_pack<kAligned>(out.at(row, column), product, left);
  }
};

template <typename T, bool kAligned>
struct Backward {
  static constexpr int kCount = kPack<T>;
  struct Loaded {
    Pack<T, kCount> dout;
    Pack<T, kCount> gate;
    Pack<T, kCount> up;
  };

  Rows<T> dgate;
  Rows<T> dup;
  Rows<T> out;  // its data may be null
  Rows<const T> dout;
  Rows<const T> gate;
  Rows<const T> up;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return {load_pack<kAligned, kCount>(dout.at(row, column), left),
            load_pack<kAligned, kCount>(gate.at(row, column), left),
            load_pack<kAligned, kCount>(up.at(row, column), left)};
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> product;
    Pack<T, kCount> gate_slope;
    Pack<T, kCount> up_slope;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const Compute<T> upstream = cuda::load(loaded.dout.values[k]);
      const Compute<T> g = cuda::load(loaded.gate.values[k]);
      const Compute<T> u = cuda::load(loaded.up.values[k]);
      const Compute<T> s = sigmoid<T>(g);
      product.values[k] = round_to<T>(gated(g, s, u));
      gate_slope.values[k] = round_to<T>(gate_gradient(upstream, g, s, u));
      up_slope.values[k] = round_to<T>(up_gradient(upstream, g, s));
    }
    if (out.data != nullptr) store_pack<kAligned>(out.at(row, column), product, left);
    store_pack<kAligned>(dgate.at(row, column), gate_slope, left);
    store_pack<kAligned>(dup.at(row, column), up_slope, left);
  }
};

}  // namespace

void CudaKernels::swiglu_forward(const Tensor& out, const Tensor& gate_up) {
  const Operation operation(*this, "swiglu_forward", out);
  check_swiglu_forward(out, gate_up);
  dispatch_float("swiglu_forward", "gate_up", gate_up, [&]<typename T>() {
    const Index inner = out.size(1);
    const T* gate = gate_up.data<T>();
    const bool aligned =
        packs_aligned(out) && packs_aligned(gate_up) && packs_aligned(gate_up, inner);
    with_alignment(aligned, [&]<bool kAligned>() {
      const Forward<T, kAligned> body{{out.data<T>(), out.row_stride()},
                                      {gate, gate_up.row_stride()},
                                      {gate + inner, gate_up.row_stride()}};
      launch_packs(queue_, out.size(0), inner, body);
    });
  });
}

void CudaKernels::swiglu_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                                  const Tensor& gate_up) {
  const Operation operation(*this, "swiglu_backward", dgate_up);
  check_swiglu_backward(dgate_up, out, dout, gate_up);
  dispatch_float("swiglu_backward", "gate_up", gate_up, [&]<typename T>() {
    const Index inner = dout.size(1);
    const T* gate = gate_up.data<T>();
    T* dgate = dgate_up.data<T>();
    const bool aligned = (!out.defined() || packs_aligned(out)) && packs_aligned(dout) &&
                         packs_aligned(gate_up) && packs_aligned(gate_up, inner) &&
                         packs_aligned(dgate_up);
    with_alignment(aligned, [&]<bool kAligned>() {
      Backward<T, kAligned> body{{dgate, dgate_up.row_stride()},
                                 {dgate + inner, dgate_up.row_stride()},
                                 {},
                                 {dout.data<T>(), dout.row_stride()},
                                 {gate, gate_up.row_stride()},
                                 {gate + inner, gate_up.row_stride()}};
      if (out.defined()) body.out = {out.data<T>(), out.row_stride()};
      launch_packs(queue_, dout.size(0), inner, body);
    });
  });
}

}  // namespace longspan::backend::cuda
