#include <cuda_platform.h>

#include <catch2/catch.hpp>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "longspan/base/error.h"
#include "tests/cuda_shim/shim.h"

// The stand-in for CUDA must see what it is there to see: each kernel here has one fault.
namespace longspan::backend::cuda::testing {
namespace {

using Catch::Contains;

struct OrderScope {
  explicit OrderScope(shim::Order order, std::uint64_t seed = 0) { shim::set_order(order, seed); }
  ~OrderScope() { shim::set_order(shim::Order::kAscending); }
};

const shim::Order kOrders[] = {shim::Order::kAscending, shim::Order::kDescending,
                               shim::Order::kShuffled};

__global__ void write_numbers(int* out) {
  const dim3 threads = blockDim;
  const unsigned thread =
      threadIdx.x + threads.x * (threadIdx.y + static_cast<unsigned>(threads.y) * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * threads.x * threads.y * threads.z + thread] += 1;
}

TEST_CASE("every thread of every block runs once, whatever the shape") {
  for (const shim::Order order : kOrders) {
    const OrderScope scope(order, 3);
    std::vector<int> out(2 * 3 * 4 * 5 * 2 * 3, 0);
    LONGSPAN_LAUNCH(write_numbers, dim3(2, 3, 4), dim3(5, 2, 3), 0, nullptr, out.data());
    CHECK(std::count(out.begin(), out.end(), 1) == static_cast<std::ptrdiff_t>(out.size()));
  }
}

/// Each thread reads its neighbour's number.
template <bool kWithBarrier>
__global__ void neighbours(int* out) {
  int* shared = dynamic_shared_memory<int>();
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  if constexpr (kWithBarrier) __syncthreads();
  out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

template <bool kWithBarrier>
int wrong_neighbours(shim::Order order) {
  const OrderScope scope(order, 5);
  constexpr int kThreads = 96;
  std::vector<int> out(kThreads, -2);
  LONGSPAN_LAUNCH(neighbours<kWithBarrier>, 1, kThreads, kThreads * sizeof(int), nullptr,
                  out.data());
  int wrong = 0;
  for (int i = 0; i < kThreads; ++i) {
    wrong += out[static_cast<std::size_t>(i)] == (i + 1) % kThreads ? 0 : 1;
  }
  return wrong;
}

TEST_CASE("a forgotten barrier gives wrong numbers, a barrier right ones in every order") {
  for (const shim::Order order : kOrders) {
    CHECK(wrong_neighbours<true>(order) == 0);
    CHECK(wrong_neighbours<false>(order) > 0);
  }
}

/// A warp that reads its neighbour's number and writes its own anew, in several rounds.
template <bool kTwoPlaces>
__global__ void rounds(int* wrong) {
  int* shared = dynamic_shared_memory<int>();
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int round = 0; round < 3; ++round) {
    int* place = shared + (kTwoPlaces ? round % 2 * warps : 0);
    const int value = __shfl_sync(~0U, 100 * round + warp, 0);
    if (threadIdx.x % 32 == 0) place[warp] = value;
    __syncthreads();
    if (place[(warp + 1) % warps] != 100 * round + (warp + 1) % warps) atomicAdd(wrong, 1);
  }
}

TEST_CASE("a warp that runs ahead of the others is seen, for all that shuffles hold it up") {
  for (const shim::Order order : kOrders) {
    const OrderScope scope(order, 17);
    int wrong = 0;
    LONGSPAN_LAUNCH(rounds<true>, 1, 96, 6 * sizeof(int), nullptr, &wrong);
    CHECK(wrong == 0);
    LONGSPAN_LAUNCH(rounds<false>, 1, 96, 3 * sizeof(int), nullptr, &wrong);
    CHECK(wrong > 0);
  }
}

/// Right only if the first block runs first.
__global__ void count_in_turn(int* state) {
  if (static_cast<int>(blockIdx.x) == *state) ++*state;
}

TEST_CASE("blocks that count on their order are seen too") {
  int state = 0;
  LONGSPAN_LAUNCH(count_in_turn, 4, 1, 0, nullptr, &state);
  CHECK(state == 4);
  const OrderScope scope(shim::Order::kDescending);
  state = 0;
  LONGSPAN_LAUNCH(count_in_turn, 4, 1, 0, nullptr, &state);
  CHECK(state == 1);
}

__global__ void half_at_barrier(int* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncwarp();
    __syncthreads();
  }
  *out = 1;
}

__global__ void barrier_and_shuffle(int* out) {
  if (threadIdx.x == 0) {
    __syncthreads();
  } else {
    *out = __shfl_sync(~0U, *out, 0);
  }
}

__global__ void ended_lane(int* out) {
  if (threadIdx.x == 7) return;
  *out = __shfl_xor_sync(~0U, *out, 1);
}

__global__ void ended_threads(int* out) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
  atomicAdd(out, 1);
}

TEST_CASE("a barrier that not all live threads reach is an error that names the kernel") {
  for (const shim::Order order : kOrders) {
    const OrderScope scope(order, 11);
    int out = 0;
    CHECK_THROWS_WITH(
        [&] { LONGSPAN_LAUNCH(half_at_barrier, 1, 64, 0, nullptr, &out); }(),
        Contains("half_at_barrier, block (0, 0, 0): not all live threads reach one barrier") &&
            Contains("32 wait at barrier shim_test.cpp:"));
    CHECK_THROWS_WITH([&] { LONGSPAN_LAUNCH(barrier_and_shuffle, 1, 32, 0, nullptr, &out); }(),
                      Contains("barrier_and_shuffle") && Contains("1 wait at barrier") &&
                          Contains("31 wait at warp operation"));
    CHECK_THROWS_WITH([&] { LONGSPAN_LAUNCH(ended_lane, 1, 32, 0, nullptr, &out); }(),
                      Contains("ended_lane") && Contains("for lane 7"));
    CHECK_THROWS_WITH([&] { LONGSPAN_LAUNCH(ended_lane, 1, 5, 0, nullptr, &out); }(),
                      Contains("for lane 5"));
    LONGSPAN_LAUNCH(ended_threads, 1, 64, 0, nullptr, &out);
    CHECK(out == 40);
  }
}

__global__ void throws_in_one_thread() {
  if (threadIdx.x == 3) throw base::InternalError("three");
  __syncthreads();
}

TEST_CASE("what one thread throws arrives at the launch, and the next launch is well") {
  CHECK_THROWS_WITH([] { LONGSPAN_LAUNCH(throws_in_one_thread, 2, 64, 0, nullptr); }(),
                    Contains("throws_in_one_thread") && Contains("three"));
  CHECK(wrong_neighbours<true>(shim::Order::kAscending) == 0);
}

struct Shuffled {
  std::int64_t from_3, turned;
  float down;
  double up;
  unsigned ballot;
  int segment, any, all, count;
};

__global__ void shuffles(Shuffled* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  Shuffled& mine = out[threadIdx.x];
  const std::int64_t big = (std::int64_t{warp} << 40) + lane;
  mine.from_3 = __shfl_sync(~0U, big, 3);
  mine.turned = __shfl_xor_sync(~0U, big, 5);
  mine.down = __shfl_down_sync(~0U, static_cast<float>(lane), 4);
  mine.up = __shfl_up_sync(~0U, static_cast<double>(lane), 4);
  mine.segment = __shfl_xor_sync(~0U, __shfl_sync(~0U, lane, 1, 8), 0, 8);
  mine.ballot = __ballot_sync(~0U, lane % 3 == 0 ? 1 : 0);
  mine.any = __any_sync(~0U, warp == 1 && lane == 9 ? 1 : 0);
  mine.all = __all_sync(~0U, warp == 1 ? 1 : 0);
  if (lane < 16) mine.turned += __shfl_xor_sync(0xffffU, 100 * lane, 1);
  mine.count = __syncthreads_count(lane < 2 ? 1 : 0);
}

TEST_CASE("shuffles and ballots give what a device's do") {
  for (const shim::Order order : kOrders) {
    const OrderScope scope(order, 13);
    std::vector<Shuffled> out(64);
    LONGSPAN_LAUNCH(shuffles, 1, 64, 0, nullptr, out.data());
    for (int i = 0; i < 64; ++i) {
      const Shuffled& one = out[static_cast<std::size_t>(i)];
      const int lane = i % 32;
      const std::int64_t high = std::int64_t{i / 32} << 40;
      CHECK(one.from_3 == high + 3);
      CHECK(one.turned == high + (lane ^ 5) + (lane < 16 ? 100 * (lane ^ 1) : 0));
      CHECK(one.down == static_cast<float>(lane < 28 ? lane + 4 : lane));
      CHECK(one.up == (lane >= 4 ? lane - 4 : lane));
      CHECK(one.segment == lane / 8 * 8 + 1);
      CHECK(one.ballot == 0x49249249U);
      CHECK(one.any == i / 32);
      CHECK(one.all == i / 32);
      CHECK(one.count == 4);
    }
  }
}

__global__ void add_all(int* ints, unsigned long long* longs, float* floats, double* doubles,
                        int* most) {
  atomicAdd(ints, 1);
  atomicAdd(longs, 1ULL << 33U);
  atomicAdd(floats, 0.5F);
  atomicAdd(doubles, 0.25);
  atomicMax(most, static_cast<int>(threadIdx.x));
}

TEST_CASE("atomics add what all threads bring") {
  int ints = 0;
  int most = -1;
  unsigned long long longs = 0;
  float floats = 0.0F;
  double doubles = 0.0;
  LONGSPAN_LAUNCH(add_all, 3, 50, 0, nullptr, &ints, &longs, &floats, &doubles, &most);
  CHECK(ints == 150);
  CHECK(longs == 150ULL << 33U);
  CHECK(floats == 75.0F);
  CHECK(doubles == 37.5);
  CHECK(most == 49);
}

__global__ void read_shared(float* out) { *out = dynamic_shared_memory<float>()[blockIdx.x]; }
__global__ void write_shared(int count) {
  auto* shared = dynamic_shared_memory<float>();
  for (int i = 0; i < count; ++i) shared[i] = 1.0F;
}

TEST_CASE("shared memory is NaN in each block and has an end") {
  float out = 0.0F;
  LONGSPAN_LAUNCH(write_shared, 1, 1, 100, nullptr, 25);
  LONGSPAN_LAUNCH(read_shared, 1, 1, 100, nullptr, &out);
  CHECK(std::isnan(out));
#ifdef __SANITIZE_ADDRESS__
  // A write there would end the program.
  static bool poisoned = false;
  struct Look {
    static __global__ void beyond() {
      poisoned = __asan_address_is_poisoned(dynamic_shared_memory<float>() + 25) != 0;
    }
  };
  LONGSPAN_LAUNCH(Look::beyond, 1, 1, 100, nullptr);
  CHECK(poisoned);
#else
  CHECK_THROWS_WITH([] { LONGSPAN_LAUNCH(write_shared, 1, 1, 100, nullptr, 26); }(),
                    Contains("write_shared") && Contains("beyond its 100 bytes"));
#endif
}

TEST_CASE("launches that a device refuses are refused") {
  int out = 0;
  const auto launch = [&](dim3 grid, dim3 block, std::size_t shared) {
    LONGSPAN_LAUNCH(ended_threads, grid, block, shared, nullptr, &out);
  };
  CHECK_THROWS_WITH(launch(0, 32, 0),
                    Contains("cudaErrorInvalidConfiguration") && Contains("ended_threads"));
  CHECK_THROWS_AS(launch(1, 0, 0), base::InternalError);
  CHECK_THROWS_AS(launch(1, 1025, 0), base::InternalError);
  CHECK_THROWS_AS(launch(1, dim3(32, 33), 0), base::InternalError);
  CHECK_THROWS_AS(launch(1, dim3(1, 1, 65), 0), base::InternalError);
  CHECK_THROWS_AS(launch(dim3(1, 65536), 1, 0), base::InternalError);
  CHECK_THROWS_AS(launch(1, 1, (48U << 10U) + 1), base::InternalError);
  CHECK(out == 0);
  CHECK(cudaFuncSetAttribute(ended_threads, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             100 << 10) == cudaSuccess);
  launch(1, 1, 100U << 10U);
  CHECK(out == 1);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("the runtime's memory is counted and limited") {
  shim::set_device_memory(1000);
  void* block = nullptr;
  void* more = nullptr;
  REQUIRE(cudaMalloc(&block, 600) == cudaSuccess);
  CHECK(std::isnan(*static_cast<float*>(block)));
  CHECK(cudaMalloc(&more, 600) == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  std::size_t free = 0;
  std::size_t total = 0;
  CHECK(cudaMemGetInfo(&free, &total) == cudaSuccess);
  CHECK(free == 400);
  CHECK(cudaFree(block) == cudaSuccess);
  CHECK(cudaFree(&total) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  shim::set_device_memory(std::size_t{1} << 30U);
}

TEST_CASE("events tell the time between them, when they are made for that and recorded") {
  cudaEvent_t first = nullptr;
  cudaEvent_t second = nullptr;
  cudaEvent_t untimed = nullptr;
  CHECK(cudaEventCreate(&first) == cudaSuccess);
  CHECK(cudaEventCreateWithFlags(&second, cudaEventDefault) == cudaSuccess);
  CHECK(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming) == cudaSuccess);
  float milliseconds = -1;
  cudaEventRecord(first);
  CHECK(cudaEventElapsedTime(&milliseconds, first, second) == cudaErrorInvalidResourceHandle);
  cudaEventRecord(second);
  cudaEventRecord(untimed);
  CHECK(cudaEventElapsedTime(&milliseconds, first, second) == cudaSuccess);
  CHECK(milliseconds >= 0);
  CHECK(cudaEventElapsedTime(&milliseconds, first, untimed) == cudaErrorInvalidResourceHandle);
  for (const cudaEvent_t event : {first, second, untimed}) cudaEventDestroy(event);
  cudaGetLastError();
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
