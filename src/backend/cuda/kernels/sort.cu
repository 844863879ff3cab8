#include "backend/cuda/kernels/sort.h"

#include <utility>

#include "backend/cuda_scratch.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kWarps = kThreads / kLanes;
/// Neighbouring tokens of which one warp takes care.
constexpr int kWarpTokens = static_cast<int>(kSortTokens) / kWarps;
static_assert(kDigits == kSortDigits && kDigits == kThreads);  // thread i also owns digit i

/// One step of the sort: by the digit at `shift`.
struct Step {
  const std::int32_t* ids;
  const std::int32_t* order;  ///< null: the tokens' own order
  Index tokens;
  int shift;

  __device__ std::int32_t token(Index i) const {
    return order == nullptr ? static_cast<std::int32_t>(i) : order[i];
  }
  __device__ int digit(std::int32_t token) const {
    return static_cast<int>((static_cast<std::uint32_t>(ids[token]) >> shift) % kDigits);
  }
};

/// counts[block, digit]: how often the block's tokens have the digit.
__global__ void count_kernel(std::int32_t* counts, Step step) {
  __shared__ std::int32_t count[kDigits];
  count[threadIdx.x] = 0;
  __syncthreads();
  const Index begin = static_cast<Index>(blockIdx.x) * kSortTokens;
  for (Index i = begin + threadIdx.x; i < begin + kSortTokens && i < step.tokens; i += kThreads) {
    atomicAdd(&count[step.digit(step.token(i))], 1);  // integers: any order gives the same
  }
  __syncthreads();
  counts[static_cast<Index>(blockIdx.x) * kDigits + threadIdx.x] = count[threadIdx.x];
}

/// The sum of the values of the block's earlier threads.
__device__ std::int32_t sum_before(std::int32_t value) {
  __shared__ std::int32_t sums[kThreads];
  std::int32_t sum = value;
  sums[threadIdx.x] = value;
  __syncthreads();
  for (unsigned step = 1; step < kThreads; step *= 2) {
    const std::int32_t more = threadIdx.x >= step ? sums[threadIdx.x - step] : 0;
    __syncthreads();
    sum += more;
    sums[threadIdx.x] = sum;
    __syncthreads();
  }
  return sum - value;
}

/// One block, a digit a thread: counts[block, digit] becomes the sum over earlier blocks,
/// starts[digit] the sum over smaller digits.
__global__ void scan_kernel(std::int32_t* counts, std::int32_t* starts, Index blocks) {
  constexpr int kInFlight = 8;
  std::int32_t* column = counts + threadIdx.x;
  std::int32_t sum = 0;
  for (Index begin = 0; begin < blocks; begin += kInFlight) {
    std::int32_t count[kInFlight];
    LONGSPAN_UNROLL
    for (int i = 0; i < kInFlight; ++i) {
      count[i] = begin + i < blocks ? column[(begin + i) * kDigits] : 0;
    }
    LONGSPAN_UNROLL
    for (int i = 0; i < kInFlight; ++i) {
      if (begin + i < blocks) column[(begin + i) * kDigits] = sum;
      sum += count[i];
    }
  }
  starts[threadIdx.x] = sum_before(sum);
}

/// The lanes of this warp that are inside and have this digit.
__device__ unsigned lanes_alike(bool inside, int digit) {
  unsigned alike = __ballot_sync(kAllLanes, inside ? 1 : 0);
  LONGSPAN_UNROLL
  for (int bit = 0; bit < kDigitBits; ++bit) {
    const bool set = ((digit >> bit) & 1) != 0;
    const unsigned ones = __ballot_sync(kAllLanes, set ? 1 : 0);
    alike &= set ? ones : ~ones;
  }
  return alike;
}

/// Calls body(token, digit, lanes alike) for the warp's tokens, 32 at a time and in their order;
/// all lanes call it, those beyond the end with token -1.
template <typename Body>
__device__ void for_warp_tokens(const Step& step, const Body& body) {
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const Index begin = static_cast<Index>(blockIdx.x) * kSortTokens + Index{warp} * kWarpTokens;
  for (int round = 0; round < kWarpTokens; round += kLanes) {
    const Index i = begin + round + lane;
    const std::int32_t token = i < step.tokens ? step.token(i) : -1;
    const int digit = token >= 0 ? step.digit(token) : 0;
    body(token, digit, lanes_alike(token >= 0, digit));
  }
}

/// Puts the block's tokens in their places: after those of smaller digits, of earlier blocks, of
/// earlier warps, and of earlier tokens of the warp.
__global__ void scatter_kernel(std::int32_t* sorted, const std::int32_t* counts,
                               const std::int32_t* starts, Step step) {
  __shared__ std::int32_t next[kWarps][kDigits];
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int i = 0; i < kWarps; ++i) next[i][threadIdx.x] = 0;
  __syncthreads();
  for_warp_tokens(step, [&](std::int32_t token, int digit, unsigned alike) {
    const bool first = token >= 0 && (alike & ((1U << lane) - 1)) == 0;
    if (first) next[warp][digit] += __popc(alike);
    __syncwarp();
  });
  __syncthreads();
  // Of the thread's own digit.
  std::int32_t place =
      starts[threadIdx.x] + counts[static_cast<Index>(blockIdx.x) * kDigits + threadIdx.x];
  for (int i = 0; i < kWarps; ++i) {
    const std::int32_t count = next[i][threadIdx.x];
    next[i][threadIdx.x] = place;
    place += count;
  }
  __syncthreads();
  for_warp_tokens(step, [&](std::int32_t token, int digit, unsigned alike) {
    const int earlier = __popc(alike & ((1U << lane) - 1));
    if (token >= 0) sorted[next[warp][digit] + earlier] = token;
    __syncwarp();  // all have read before the first moves on
    if (token >= 0 && earlier == 0) next[warp][digit] += __popc(alike);
    __syncwarp();
  });
}

}  // namespace

const std::int32_t* sort_by_id(const Queue& queue, const std::int32_t* ids, Index tokens,
                               int id_bits, std::int32_t* order, std::int32_t* sorted,
                               std::int32_t* counts, std::int32_t* starts) {
  const Index blocks = divide_up(tokens, kSortTokens);
  const auto grid = static_cast<unsigned>(blocks);
  Step step{ids, nullptr, tokens, 0};
  do {  // one step at least: it writes the order
    LONGSPAN_LAUNCH(count_kernel, grid, kThreads, 0, queue.stream, counts, step);
    LONGSPAN_LAUNCH(scan_kernel, 1, kThreads, 0, queue.stream, counts, starts, blocks);
    LONGSPAN_LAUNCH(scatter_kernel, grid, kThreads, 0, queue.stream, sorted, counts, starts, step);
    step.order = sorted;
    step.shift += kDigitBits;
    std::swap(order, sorted);
  } while (step.shift < id_bits);
  return step.order;
}

}  // namespace longspan::backend::cuda
