#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <tuple>
#include <type_traits>

#include "backend/cuda/error.h"
#include "longspan/base/bfloat16.h"
#include "tests/cuda_shim/shim.h"

// Stands in for src/backend/cuda/platform/cuda_platform.h in tests: with it the very same kernels
// are C++ and run on the processor, under the sanitizers. The threads of a block are fibres that
// change places at barriers and warp operations only, in an order that tests choose: a forgotten
// barrier gives wrong numbers in some order. Blocks run one after another.
//
// What it does not show: races within what runs between two barriers of one thread, bandwidth,
// registers, or (but for load_vector and store_vector) misaligned vectors without the
// undefined-behaviour sanitizer.

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
/// One for all blocks, as these take turns; unlike dynamic shared memory it is not made NaN.
#define __shared__ static
#define LONGSPAN_UNROLL
#define LONGSPAN_UNROLL_BY(steps)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
inline constexpr int warpSize = 32;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// --- arithmetic -------------------------------------------------------------------------------
using std::max;
using std::min;

inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0F / x; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __dadd_rn(double x, double y) { return x + y; }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline int __ffs(int bits) {
  return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1;
}
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((std::uint64_t{a} * b) >> 32U);
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}
/// Loads and stores that a device need not keep in its caches.
template <typename T>
T __ldcs(const T* address) {
  return *address;
}
template <typename T>
void __stcs(T* address, T value) {
  *address = value;
}

// --- barriers and warps -----------------------------------------------------------------------
// Each remembers where it was called, for messages and to tell one barrier from another.
inline void __syncthreads(std::source_location place = std::source_location::current()) {
  longspan::backend::cuda::shim::block_barrier(place);
}
inline int __syncthreads_or(int yes, std::source_location place = std::source_location::current()) {
  return longspan::backend::cuda::shim::block_count(yes != 0, place) > 0 ? 1 : 0;
}
inline int __syncthreads_count(int yes,
                               std::source_location place = std::source_location::current()) {
  return longspan::backend::cuda::shim::block_count(yes != 0, place);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

inline void __syncwarp(unsigned mask = ~0U,
                       std::source_location place = std::source_location::current()) {
  using namespace longspan::backend::cuda::shim;  // NOLINT: names of one function
  meet_warp({.operation = WarpOperation::kSynchronise, .mask = mask, .place = place});
}
inline unsigned __activemask() { return longspan::backend::cuda::shim::live_lanes(); }
inline unsigned __ballot_sync(unsigned mask, int yes,
                              std::source_location place = std::source_location::current()) {
  using namespace longspan::backend::cuda::shim;  // NOLINT: names of one function
  return static_cast<unsigned>(meet_warp({.operation = WarpOperation::kBallot,
                                          .mask = mask,
                                          .value = yes != 0 ? 1U : 0U,
                                          .place = place}));
}
inline int __any_sync(unsigned mask, int yes,
                      std::source_location place = std::source_location::current()) {
  return __ballot_sync(mask, yes, place) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int yes,
                      std::source_location place = std::source_location::current()) {
  return __ballot_sync(mask, yes, place) == mask ? 1 : 0;
}

namespace longspan::backend::cuda::shim {

/// `value` of another lane of this warp.
template <typename T>
T shuffle(unsigned mask, T value, int source, const std::source_location& place) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4 && sizeof(T) <= 8,
                "a device shuffles int, unsigned, 64-bit integers, float and double");
  WarpRequest request{
      .operation = WarpOperation::kShuffle, .mask = mask, .source = source, .place = place};
  std::memcpy(&request.value, &value, sizeof(T));
  const std::uint64_t taken = meet_warp(request);
  std::memcpy(&value, &taken, sizeof(T));
  return value;
}

}  // namespace longspan::backend::cuda::shim

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              std::source_location place = std::source_location::current()) {
  const int lane = longspan::backend::cuda::shim::lane_index();
  const int target = (lane & -width) | (source & (width - 1));
  return longspan::backend::cuda::shim::shuffle(mask, value, target, place);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize,
                  std::source_location place = std::source_location::current()) {
  const int lane = longspan::backend::cuda::shim::lane_index();
  const int target = lane ^ lanes;
  const bool within = target < (lane & -width) + width;
  return longspan::backend::cuda::shim::shuffle(mask, value, within ? target : lane, place);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = warpSize,
                   std::source_location place = std::source_location::current()) {
  const int lane = longspan::backend::cuda::shim::lane_index();
  const int target = lane + static_cast<int>(lanes);
  const bool within = target < (lane & -width) + width;
  return longspan::backend::cuda::shim::shuffle(mask, value, within ? target : lane, place);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = warpSize,
                 std::source_location place = std::source_location::current()) {
  const int lane = longspan::backend::cuda::shim::lane_index();
  const int target = lane - static_cast<int>(lanes);
  const bool within = target >= (lane & -width);
  return longspan::backend::cuda::shim::shuffle(mask, value, within ? target : lane, place);
}

// --- atomics: only one thread runs at a time ----------------------------------------------------
template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned> ||
                    std::is_same_v<T, unsigned long long> || std::is_same_v<T, float> ||
                    std::is_same_v<T, double>,
                "a device adds int, unsigned, unsigned long long, float and double");
  const T before = *address;
  *address = before + value;
  return before;
}
template <typename T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>, "a device compares integers");
  const T before = *address;
  *address = std::max(before, value);
  return before;
}
template <typename T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>, "a device compares integers");
  const T before = *address;
  *address = std::min(before, value);
  return before;
}
template <typename T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  const T before = *address;
  if (before == expected) *address = value;
  return before;
}

namespace longspan::backend::cuda {

template <typename T>
T* dynamic_shared_memory() {
  return static_cast<T*>(shim::shared_memory());
}

inline float to_float(base::BFloat16 value) { return static_cast<float>(value); }
inline base::BFloat16 to_bfloat16(float value) { return base::BFloat16(value); }

template <typename T>
T load_vector(const void* from) {
  static_assert(sizeof(T) % sizeof(uint4) == 0);
  shim::check_alignment(from, sizeof(uint4));
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}
template <typename T>
void store_vector(void* to, const T& value) {
  static_assert(sizeof(T) % sizeof(uint4) == 0);
  shim::check_alignment(to, sizeof(uint4));
  std::memcpy(to, &value, sizeof(T));
}

namespace shim {

/// Arguments become the kernel's parameters once, as they do on their way to a device.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            std::size_t shared_bytes, cudaStream_t /*stream*/, Arguments&&... arguments) {
  const std::tuple<Parameters...> parameters(std::forward<Arguments>(arguments)...);
  run({.kernel = name,
       .function = reinterpret_cast<const void*>(kernel),
       .grid = {grid.x, grid.y, grid.z},
       .block = {block.x, block.y, block.z},
       .shared_bytes = shared_bytes,
       .thread = [&] { std::apply(kernel, parameters); }});
}

}  // namespace shim
}  // namespace longspan::backend::cuda

#define LONGSPAN_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                         \
  do {                                                                                          \
    ::longspan::backend::cuda::shim::launch(#kernel, (kernel), (grid), (block), (shared_bytes), \
                                            (stream)__VA_OPT__(, ) __VA_ARGS__);                \
    ::longspan::backend::cuda::check_launch(#kernel);                                           \
  } while (false)
