#pragma once

#include <cuda_platform.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "backend/divide_up.h"
#include "backend/elementwise/compute.h"
#include "longspan/backend/tensor.h"

// How kernels read and write rows: in packs of neighbouring elements, 16 bytes at a time where
// addresses allow. A pack holds the same elements on either way, so that sums do not depend on it.
namespace longspan::backend::cuda {

inline constexpr int kVectorBytes = 16;

/// kPack<T> elements, or a few times that.
template <typename T, int kCount>
struct alignas(kVectorBytes) Pack {
  T values[kCount];
};

/// Elements of T in one vector access.
template <typename T>
inline constexpr int kPack = kVectorBytes / static_cast<int>(sizeof(T));

/// Elements of a pack of two types: whole vectors of either.
template <typename One, typename Other>
inline constexpr int kPackOf = kPack<One> > kPack<Other> ? kPack<One> : kPack<Other>;

/// Rows of a tensor, as kernels are given them.
template <typename T>
struct Rows {
  T* data = nullptr;
  Index stride = 0;

  __device__ T* at(Index row, Index column) const { return data + row * stride + column; }
};

/// `left` elements from `from` on are there: less than kCount at the end of a row, where zeros
/// stand for the rest.
template <bool kAligned, int kCount, typename T>
__device__ Pack<T, kCount> load_pack(const T* from, Index left) {
  if (kAligned && left >= kCount) return load_vector<Pack<T, kCount>>(from);
  Pack<T, kCount> pack;
  LONGSPAN_UNROLL
  for (int k = 0; k < kCount; ++k) pack.values[k] = k < left ? from[k] : T{};
  return pack;
}

template <bool kAligned, int kCount, typename T>
__device__ void store_pack(T* to, const Pack<T, kCount>& pack, Index left) {
  if (kAligned && left >= kCount) return store_vector(to, pack);
  LONGSPAN_UNROLL
  for (int k = 0; k < kCount; ++k) {
    if (k < left) to[k] = pack.values[k];
  }
}

__device__ inline double load(double value) { return value; }
__device__ inline float load(float value) { return value; }
__device__ inline float load(base::BFloat16 value) { return to_float(value); }

/// Rounds to the stored type, to nearest even.
template <typename T, typename Value>
__device__ T round_to(Value value) {
  if constexpr (std::is_same_v<T, base::BFloat16>) {
    return to_bfloat16(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

// --- on the host --------------------------------------------------------------------------------

/// Smallest power of two that is not less.
inline Index power_of_two(Index value) {
  Index power = 1;
  while (power < value) power *= 2;
  return power;
}

/// Whether packs lie at aligned addresses in every row, from `column` on.
inline bool packs_aligned(const Tensor& tensor, Index column = 0) {
  const auto size = static_cast<Index>(base::size_of(tensor.dtype()));
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.raw());
  return address % kVectorBytes == 0 && tensor.row_stride() * size % kVectorBytes == 0 &&
         column * size % kVectorBytes == 0;
}

/// The same of a vector, of which no row follows.
inline bool vector_aligned(const Tensor& vector) {
  return reinterpret_cast<std::uintptr_t>(vector.raw()) % kVectorBytes == 0;
}

}  // namespace longspan::backend::cuda
