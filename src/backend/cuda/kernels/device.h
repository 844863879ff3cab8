#pragma once

#include <cuda_platform.h>

#include <cstdint>
#include <type_traits>

#include "longspan/backend/tensor.h"

// Small pieces of which the kernels are made.
namespace longspan::backend::cuda {

/// The type a kernel computes in: double for double, float for float and bfloat16.
template <typename T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

__device__ inline double load(double value) { return value; }
__device__ inline float load(float value) { return value; }
__device__ inline float load(base::BFloat16 value) { return to_float(value); }

/// Rounds to the stored type, to nearest even.
template <typename T, typename Value>
__device__ inline T round_to(Value value) {
  if constexpr (std::is_same_v<T, base::BFloat16>) {
    return to_bfloat16(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

inline Index divide_up(Index value, Index by) { return (value + by - 1) / by; }

inline constexpr unsigned kWholeWarp = ~0U;
inline constexpr int kWarpThreads = 32;

/// As many elements as one instruction loads: 16 bytes.
template <typename T>
inline constexpr int kPack = static_cast<int>(16 / sizeof(T));

/// Neighbouring elements that are loaded or stored together; `run` is aligned to their size, at
/// most 16 bytes.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount > 16 ? 16 : sizeof(T) * kCount) Pack {
  T values[kCount];
};
template <int kCount, typename T>
__device__ inline Pack<T, kCount> load_pack(const T* run) {
  return *reinterpret_cast<const Pack<T, kCount>*>(run);
}
template <int kCount, typename T>
__device__ inline void store_pack(T* run, const Pack<T, kCount>& pack) {
  *reinterpret_cast<Pack<T, kCount>*>(run) = pack;
}

/// Whether packs of `count` elements lie at aligned addresses in every row.
inline bool packs_aligned(const Tensor& tensor, int count) {
  const auto size = static_cast<Index>(base::size_of(tensor.dtype()));
  const Index alignment = count * size < 16 ? count * size : 16;
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.raw());
  return address % static_cast<std::uintptr_t>(alignment) == 0 &&
         tensor.row_stride() * size % alignment == 0;
}

}  // namespace longspan::backend::cuda
