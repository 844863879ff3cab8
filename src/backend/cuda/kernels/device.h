#pragma once

#include "backend/cuda/kernels/packs.h"

namespace longspan::backend::cuda {

inline constexpr unsigned kWholeWarp = ~0U;
inline constexpr int kWarpThreads = 32;

/// A whole pack at an aligned address.
template <int kCount, typename T>
__device__ inline Pack<T, kCount> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, kCount>*>(from);
}
template <int kCount, typename T>
__device__ inline void store_pack(T* to, const Pack<T, kCount>& pack) {
  *reinterpret_cast<Pack<T, kCount>*>(to) = pack;
}

}  // namespace longspan::backend::cuda
