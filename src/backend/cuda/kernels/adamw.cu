#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/device.h"
#include "backend/elementwise/adamw.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 256;

template <typename Weight, typename Real, typename Moment>
struct Arguments {
  Weight* weight;  ///< null where the master is what the forward reads
  Real* master;
  Moment* moment1;
  Moment* moment2;
  const Real* gradient;
  Index elements;
  Index shift;  ///< elements before the first pack begins: packs are aligned, the range need not be
  bool packed;  ///< all of them are aligned where a pack begins
};

/// Elements of a pack: whole vectors of all three.
template <typename Weight, typename Real, typename Moment>
inline constexpr int kCountOf =
    kPackOf<Weight, Real> > kPack<Moment> ? kPackOf<Weight, Real> : kPack<Moment>;

/// One pack a thread, one pass over memory; what of a pack lies outside of the range is left out.
template <typename Weight, typename Real, typename Moment, typename Kept>
__global__ void adamw_kernel(Arguments<Weight, Real, Moment> with, AdamWConstants<Real> constants,
                             Kept kept) {
  constexpr int kCount = kCountOf<Weight, Real, Moment>;
  const Index first =
      (static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x) * kCount - with.shift;
  if (with.packed && first >= 0 && first + kCount <= with.elements) {
    auto master = load_pack<kCount>(with.master + first);
    auto moment1 = load_pack<kCount>(with.moment1 + first);
    auto moment2 = load_pack<kCount>(with.moment2 + first);
    const auto gradient = load_pack<kCount>(with.gradient + first);
    Pack<Weight, kCount> weight;
    LONGSPAN_UNROLL
    for (int i = 0; i < kCount; ++i) {
      adamw_update(master.values[i], moment1.values[i], moment2.values[i], gradient.values[i],
                   constants, kept, first + i);
      weight.values[i] = round_to<Weight>(master.values[i]);
    }
    store_pack(with.master + first, master);
    store_pack(with.moment1 + first, moment1);
    store_pack(with.moment2 + first, moment2);
    if (with.weight != nullptr) store_pack(with.weight + first, weight);
    return;
  }
  for (Index i = first < 0 ? 0 : first; i < first + kCount && i < with.elements; ++i) {
    adamw_update(with.master[i], with.moment1[i], with.moment2[i], with.gradient[i], constants,
                 kept, i);
    if (with.weight != nullptr) with.weight[i] = round_to<Weight>(with.master[i]);
  }
}

/// Whether the element that stands `shift` before the tensor's first would be aligned to a pack.
bool aligned(const Tensor& tensor, Index shift) {
  if (!tensor.defined()) return true;
  const auto size = static_cast<Index>(base::size_of(tensor.dtype()));
  const auto address = static_cast<Index>(reinterpret_cast<std::uintptr_t>(tensor.raw()));
  return (address - shift * size) % kVectorBytes == 0;
}

template <typename Weight, typename Real, typename Moment, typename Kept>
void run(const Queue& queue, const Tensor& weight, const Tensor& master, const Tensor& moment1,
         const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options,
         const Kept& kept) {
  if (master.elements() == 0) return;
  constexpr int kCount = kCountOf<Weight, Real, Moment>;
  const auto all_aligned = [&](Index shift) {
    return aligned(weight, shift) && aligned(master, shift) && aligned(moment1, shift) &&
           aligned(moment2, shift) && aligned(gradient, shift);
  };
  Index shift = 0;
  while (shift < kCount && !all_aligned(shift)) ++shift;
  const bool packed = shift < kCount;
  if (!packed) shift = 0;
  const Arguments<Weight, Real, Moment> with{weight.defined() ? weight.data<Weight>() : nullptr,
                                             master.data<Real>(),
                                             moment1.data<Moment>(),
                                             moment2.data<Moment>(),
                                             gradient.data<Real>(),
                                             master.elements(),
                                             shift,
                                             packed};
  const auto blocks =
      static_cast<unsigned>(divide_up(master.elements() + shift, Index{kThreads} * kCount));
  LONGSPAN_LAUNCH((adamw_kernel<Weight, Real, Moment, Kept>), blocks, kThreads, 0, queue.stream,
                  with, AdamWConstants<Real>(options), kept);
}

}  // namespace

void CudaKernels::adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                        const Tensor& moment2, const Tensor& gradient,
                        const AdamWOptions& options) {
  const Operation operation(*this, "adamw", master);
  check_adamw(weight, master, moment1, moment2, gradient, options);
  dispatch_float("adamw", "weight", weight.defined() ? weight : master, [&]<typename Weight>() {
    using Real = Compute<Weight>;
    if (!options.rounding) {
      return run<Weight, Real, Real>(queue_, weight, master, moment1, moment2, gradient, options,
                                     ExactMoments());
    }
    if constexpr (std::is_same_v<Real, float>) {
      run<Weight, Real, base::BFloat16>(queue_, weight, master, moment1, moment2, gradient, options,
                                        RoundedMoments{*options.rounding, options.first_element});
    }
  });
}

}  // namespace longspan::backend::cuda
