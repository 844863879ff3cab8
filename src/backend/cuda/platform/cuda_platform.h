#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "backend/cuda/error.h"
#include "longspan/base/bfloat16.h"

// What kernels need of CUDA beyond plain C++; for .cu files only. tests/cuda_shim has another
// header of this name, with which the same sources run on a processor: what a kernel uses must be
// in both.

/// Before a loop of constant length whose steps shall be in flight together.
#define LONGSPAN_UNROLL _Pragma("unroll")
/// The same for `steps` of a loop of any length.
#define LONGSPAN_UNROLL_BY(steps) LONGSPAN_PRAGMA(unroll steps)
#define LONGSPAN_PRAGMA(words) _Pragma(#words)

namespace longspan::backend::cuda {

/// Shared memory of the size that the launch asked for, aligned to 16 bytes.
template <typename T>
__device__ T* dynamic_shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return reinterpret_cast<T*>(memory);
}

/// One instruction each, where base::BFloat16's own conversion takes several.
__device__ inline float to_float(base::BFloat16 value) {
  return __bfloat162float(__ushort_as_bfloat16(value.bits));
}
__device__ inline base::BFloat16 to_bfloat16(float value) {
  base::BFloat16 result;
  result.bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
  return result;
}

/// A value of 16 bytes, or several times that, in accesses of 16 bytes: the address must be aligned
/// to that. A plain store would be cut in pieces where another branch writes the same elements one
/// by one; an explicit one, of the usual caching, is left alone.
template <typename T>
__device__ T load_vector(const void* from) {
  static_assert(sizeof(T) % sizeof(uint4) == 0);
  T value;
  LONGSPAN_UNROLL
  for (unsigned i = 0; i < sizeof(T) / sizeof(uint4); ++i) {
    const uint4 part = static_cast<const uint4*>(from)[i];
    memcpy(reinterpret_cast<unsigned char*>(&value) + i * sizeof(uint4), &part, sizeof(uint4));
  }
  return value;
}
template <typename T>
__device__ void store_vector(void* to, const T& value) {
  static_assert(sizeof(T) % sizeof(uint4) == 0);
  LONGSPAN_UNROLL
  for (unsigned i = 0; i < sizeof(T) / sizeof(uint4); ++i) {
    uint4 part;
    memcpy(&part, reinterpret_cast<const unsigned char*>(&value) + i * sizeof(uint4),
           sizeof(uint4));
    __stwb(static_cast<uint4*>(to) + i, part);
  }
}

}  // namespace longspan::backend::cuda

/// Launches `kernel` (in parentheses when its template arguments have commas).
#define LONGSPAN_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  do {                                                                  \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__); \
    ::longspan::backend::cuda::check_launch(#kernel);                   \
  } while (false)
