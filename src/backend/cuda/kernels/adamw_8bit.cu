#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/block_max.h"
#include "backend/cuda/kernels/device.h"
#include "backend/elementwise/adamw.h"
#include "backend/elementwise/dynamic_map.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

/// A thread an element of a block of moments, and one for each code of a map.
constexpr int kThreads = static_cast<int>(kMomentBlock);
static_assert(kThreads == kMapCodes);
/// Enough for any GPU: each goes through blocks of moments in turn, so that it makes its tables
/// once.
constexpr Index kMostBlocks = 1024;

/// A moment of the range.
struct Moments {
  std::uint8_t* codes;
  float* scales;
};

template <typename Weight>
struct Arguments {
  Weight* weight;  ///< null where the master is what the forward reads
  float* master;
  Moments moment1;
  Moments moment2;
  const float* gradient;
  Index elements;
};

template <typename Weight>
__global__ void adamw_8bit_kernel(Arguments<Weight> with, AdamWConstants<float> constants) {
  __shared__ MapTable signed_map;
  __shared__ MapTable unsigned_map;
  __shared__ float of_warps1[kThreads / kLanes];
  __shared__ float of_warps2[kThreads / kLanes];
  signed_map.fill<true>(static_cast<int>(threadIdx.x));
  unsigned_map.fill<false>(static_cast<int>(threadIdx.x));
  const Index blocks = (with.elements + kMomentBlock - 1) / kMomentBlock;
  for (Index block = blockIdx.x; block < blocks; block += gridDim.x) {
    __syncthreads();  // the tables are there, and what the block before used is free
    const Index i = block * kMomentBlock + threadIdx.x;
    const bool is_there = i < with.elements;
    float moment1 = 0.0F;
    float moment2 = 0.0F;
    if (is_there) {
      const float before1 = signed_map.values[with.moment1.codes[i]] * with.moment1.scales[block];
      const float before2 = unsigned_map.values[with.moment2.codes[i]] * with.moment2.scales[block];
      moment1 = before1;
      moment2 = before2;
      adamw_update(with.master[i], moment1, moment2, with.gradient[i], constants);
      if (with.weight != nullptr) with.weight[i] = round_to<Weight>(with.master[i]);
      moment1 = kept_moment(moment1, before1);
      moment2 = kept_moment(moment2, before2);
    }
    const float scale1 = block_max<kThreads>(std::abs(moment1), of_warps1);
    const float scale2 = block_max<kThreads>(moment2, of_warps2);
    if (is_there) {
      with.moment1.codes[i] = signed_map.code_of(scaled(moment1, scale1));
      with.moment2.codes[i] = unsigned_map.code_of(scaled(moment2, scale2));
    }
    if (threadIdx.x == 0) {
      with.moment1.scales[block] = scale1;
      with.moment2.scales[block] = scale2;
    }
  }
}

template <typename Weight>
void run(const Queue& queue, const Arguments<Weight>& with, const AdamWOptions& options) {
  if (with.elements == 0) return;
  const auto blocks =
      static_cast<unsigned>(std::min(divide_up(with.elements, kMomentBlock), kMostBlocks));
  LONGSPAN_LAUNCH(adamw_8bit_kernel<Weight>, blocks, kThreads, 0, queue.stream, with,
                  AdamWConstants<float>(options));
}

}  // namespace

void CudaKernels::adamw_8bit(const Tensor& weight, const Tensor& master, const Tensor& codes1,
                             const Tensor& scales1, const Tensor& codes2, const Tensor& scales2,
                             const Tensor& gradient, const AdamWOptions& options) {
  const Operation operation(*this, "adamw_8bit", master);
  check_adamw_8bit(weight, master, codes1, scales1, codes2, scales2, gradient, options);
  dispatch_float("adamw_8bit", "weight", weight.defined() ? weight : master,
                 [&]<typename Weight>() {
                   if constexpr (!std::is_same_v<Weight, double>) {
                     run<Weight>(queue_,
                                 {weight.defined() ? weight.data<Weight>() : nullptr,
                                  master.data<float>(),
                                  {codes1.data<std::uint8_t>(), scales1.data<float>()},
                                  {codes2.data<std::uint8_t>(), scales2.data<float>()},
                                  gradient.data<float>(),
                                  master.elements()},
                                 options);
                   }
                 });
}

}  // namespace longspan::backend::cuda
