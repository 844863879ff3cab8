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
inline constexpr int kVector = static_cast<int>(16 / sizeof(T));

/// Neighbouring elements that are loaded or stored together; `run` is aligned to their size, at
/// most 16 bytes.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount > 16 ? 16 : sizeof(T) * kCount) Pack {
  T at[kCount];
};
template <int kCount, typename T>
__device__ inline Pack<T, kCount> load_pack(const T* run) {
  return *reinterpret_cast<const Pack<T, kCount>*>(run);
}
template <int kCount, typename T>
__device__ inline void store_pack(T* run, const Pack<T, kCount>& pack) {
  *reinterpret_cast<Pack<T, kCount>*>(run) = pack;
}

/// Whether each row of the tensor's axis 0 begins at a multiple of `bytes`.
inline bool rows_aligned(const Tensor& tensor, std::size_t bytes) {
  const std::size_t stride =
      static_cast<std::size_t>(tensor.row_stride()) * base::size_of(tensor.dtype());
  return reinterpret_cast<std::uintptr_t>(tensor.raw()) % bytes == 0 &&
         (stride % bytes == 0 || tensor.size(0) <= 1);
}

}  // namespace longspan::backend::cuda
