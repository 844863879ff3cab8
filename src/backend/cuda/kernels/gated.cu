#include "backend/elementwise/gated.h"

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/cuda/kernels/gelu.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

template <GateActivation kActivation, typename T>
__device__ Gate<Compute<T>> gate_of(T stored) {
  const Compute<T> gate = load(stored);
  if constexpr (kActivation == GateActivation::kSilu) {
    return {gate, sigmoid<T>(gate), gate, Compute<T>(1)};
  } else {
    const Compute<T> bounded = gelu_bounded(gate);
    return {gate, gelu_sigmoid<T>(bounded), bounded, gelu_slope(bounded)};
  }
}

template <GateActivation kActivation, typename T, bool kAligned>
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
      const Gate<Compute<T>> gate = gate_of<kActivation>(loaded.gate.values[k]);
      product.values[k] = round_to<T>(gated(gate, cuda::load(loaded.up.values[k])));
    }
    store_pack<kAligned>(out.at(row, column), product, left);
  }
};

template <GateActivation kActivation, typename T, bool kAligned>
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
      const Compute<T> u = cuda::load(loaded.up.values[k]);
      const Gate<Compute<T>> g = gate_of<kActivation>(loaded.gate.values[k]);
      product.values[k] = round_to<T>(gated(g, u));
      gate_slope.values[k] = round_to<T>(gate_gradient(upstream, g, u));
      up_slope.values[k] = round_to<T>(up_gradient(upstream, g));
    }
    if (out.data != nullptr) store_pack<kAligned>(out.at(row, column), product, left);
    store_pack<kAligned>(dgate.at(row, column), gate_slope, left);
    store_pack<kAligned>(dup.at(row, column), up_slope, left);
  }
};

/// Calls visit.template operator()<activation, element type, aligned>().
template <typename Visit>
void dispatch(const char* operation, GateActivation activation, const Tensor& gate_up, bool aligned,
              const Visit& visit) {
  dispatch_float(operation, "gate_up", gate_up, [&]<typename T>() {
    with_alignment(aligned, [&]<bool kAligned>() {
      switch (activation) {
        case GateActivation::kSilu:
          return visit.template operator()<GateActivation::kSilu, T, kAligned>();
        case GateActivation::kGeluTanh:
          return visit.template operator()<GateActivation::kGeluTanh, T, kAligned>();
      }
    });
  });
}

bool both_aligned(const Tensor& gate_up) {
  return packs_aligned(gate_up) && packs_aligned(gate_up, gate_up.size(1) / 2);
}

}  // namespace

void CudaKernels::gated_forward(const Tensor& out, const Tensor& gate_up,
                                GateActivation activation) {
  const Operation operation(*this, "gated_forward", out);
  check_gated_forward(out, gate_up);
  const bool aligned = packs_aligned(out) && both_aligned(gate_up);
  dispatch("gated_forward", activation, gate_up, aligned,
           [&]<GateActivation kActivation, typename T, bool kAligned>() {
             const Index inner = out.size(1);
             const T* gate = gate_up.data<T>();
             const Forward<kActivation, T, kAligned> body{{out.data<T>(), out.row_stride()},
                                                          {gate, gate_up.row_stride()},
                                                          {gate + inner, gate_up.row_stride()}};
             launch_packs(queue_, out.size(0), inner, body);
           });
}

void CudaKernels::gated_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                                 const Tensor& gate_up, GateActivation activation) {
  const Operation operation(*this, "gated_backward", dgate_up);
  check_gated_backward(dgate_up, out, dout, gate_up);
  const bool aligned = (!out.defined() || packs_aligned(out)) && packs_aligned(dout) &&
                       both_aligned(gate_up) && packs_aligned(dgate_up);
  dispatch("gated_backward", activation, gate_up, aligned,
           [&]<GateActivation kActivation, typename T, bool kAligned>() {
             const Index inner = dout.size(1);
             const T* gate = gate_up.data<T>();
             T* dgate = dgate_up.data<T>();
             Backward<kActivation, T, kAligned> body{{dgate, dgate_up.row_stride()},
                                                     {dgate + inner, dgate_up.row_stride()},
                                                     {},
                                                     {dout.data<T>(), dout.row_stride()},
                                                     {gate, gate_up.row_stride()},
                                                     {gate + inner, gate_up.row_stride()}};
             if (out.defined()) body.out = {out.data<T>(), out.row_stride()};
             launch_packs(queue_, dout.size(0), inner, body);
           });
}

}  // namespace longspan::backend::cuda
