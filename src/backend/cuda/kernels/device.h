#pragma once

#include "backend/cuda/kernels/packs.h"
#include "backend/cuda/kernels/row_sum.h"

namespace longspan::backend::cuda {

/// A whole pack: vectors at an aligned address, or a single element at any.
template <int kCount, typename T>
__device__ Pack<T, kCount> load_pack(const T* from) {
  if constexpr (kCount == 1) {
    return {{*from}};
  } else {
    return load_vector<Pack<T, kCount>>(from);
  }
}
template <int kCount, typename T>
__device__ void store_pack(T* to, const Pack<T, kCount>& pack) {
  if constexpr (kCount == 1) {
    *to = pack.values[0];
  } else {
    store_vector(to, pack);
  }
}

}  // namespace longspan::backend::cuda
