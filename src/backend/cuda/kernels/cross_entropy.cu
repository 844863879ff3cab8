#include <cmath>
#include <limits>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/device.h"
#include "backend/elementwise/soft_cap.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kLanes;
/// Packs that a thread loads before it uses the first.
constexpr int kInFlight = 4;

/// How the loss sees a logit.
template <typename Real>
struct Cap {
  Real cap;  ///< 0: as it is

  __device__ Real operator()(Real logit) const {
    return cap > 0 ? cap * std::tanh(logit / cap) : logit;
  }
  /// The derivative of a capped logit by the logit.
  __device__ Real slope(Real capped) const {
    return cap > 0 ? soft_cap_slope(capped / cap) : Real(1);
  }
};

/// A softmax's sum as far as it has been read: of exp(logit - shift). Terms are added in double, a
/// few at a time: a long row costs no precision.
template <typename Real>
struct Partial {
  static constexpr Real kNone = -std::numeric_limits<Real>::infinity();

  Real highest = kNone;  ///< that is a number
  double sum = 0;

  /// What terms are relative to. With nothing but -infinity so far any number serves, and -infinity
  /// would make them NaN.
  __device__ Real shift() const { return highest == kNone ? Real(0) : highest; }

  __device__ void raise(Real to) {
    if (!(to > highest)) return;
    sum *= highest == kNone ? 1.0 : static_cast<double>(std::exp(highest - to));
    highest = to;
  }
  __device__ void merge(Partial other) {
    raise(other.highest);
    other.raise(highest);
    sum += other.sum;
  }
};

/// Both lanes get the same: it does not matter which of two partials is merged into the other.
template <typename Real>
__device__ Partial<Real> merge_lanes(Partial<Real> mine, int step) {
  Partial<Real> other;
  other.highest = __shfl_xor_sync(kAllLanes, mine.highest, step);
  other.sum = __shfl_xor_sync(kAllLanes, mine.sum, step);
  mine.merge(other);
  return mine;
}

/// That of all threads of the block, for each of them.
template <typename Real>
__device__ Partial<Real> merge_block(Partial<Real> mine) {
  __shared__ Real highest[kWarps];
  __shared__ double sums[kWarps];
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  for (int step = kLanes / 2; step > 0; step /= 2) mine = merge_lanes(mine, step);
  if (threadIdx.x % kLanes == 0) {
    highest[warp] = mine.highest;
    sums[warp] = mine.sum;
  }
  __syncthreads();
  Partial<Real> all;
  for (int i = 0; i < kWarps; ++i) all.merge({highest[i], sums[i]});
  return all;
}

template <int kCount, typename T>
__device__ void add_terms(Partial<Compute<T>>& partial, const Pack<T, kCount>& pack,
                          const Cap<Compute<T>>& cap) {
  using Real = Compute<T>;
  Real logits[kCount];
  Real highest = Partial<Real>::kNone;
  LONGSPAN_UNROLL
  for (int i = 0; i < kCount; ++i) {
    logits[i] = cap(load(pack.values[i]));
    highest = std::fmax(highest, logits[i]);  // passes over NaN
  }
  partial.raise(highest);
  Real sum = 0;
  LONGSPAN_UNROLL
  for (int i = 0; i < kCount; ++i) sum += std::exp(logits[i] - partial.shift());
  partial.sum += static_cast<double>(sum);
}

/// A row whose packs may begin in its middle: rows of an odd vocabulary are aligned differently.
template <typename T, int kCount>
struct Row {
  const T* data;
  Index length;
  Index head;  ///< elements before the first whole pack
  Index end;   ///< of the whole packs

  __device__ Row(const T* data, Index length) : data(data), length(length) {
    const auto past =
        static_cast<Index>(reinterpret_cast<std::uintptr_t>(data) % kVectorBytes / sizeof(T));
    head = past == 0 ? 0 : kPack<T> - past;
    head = head < length ? head : length;
    end = head + (length - head) / kCount * kCount;
  }

  /// body(element) for the elements outside of whole packs, shared out among the threads.
  template <typename Body>
  __device__ void for_rest(const Body& body) const {
    for (Index i = threadIdx.x; i < head; i += kThreads) body(i);
    for (Index i = end + threadIdx.x; i < length; i += kThreads) body(i);
  }
  /// body(first element, pack) for the whole packs, with kInFlight loads on their way.
  template <typename Body>
  __device__ void for_packs(const Body& body) const {
    constexpr Index kStride = Index{kThreads} * kCount;
    for (Index i = head + Index{threadIdx.x} * kCount; i < end; i += kInFlight * kStride) {
      Pack<T, kCount> packs[kInFlight];
      LONGSPAN_UNROLL
      for (int j = 0; j < kInFlight; ++j) {
        if (i + j * kStride < end) packs[j] = load_pack<kCount>(data + i + j * kStride);
      }
      LONGSPAN_UNROLL
      for (int j = 0; j < kInFlight; ++j) {
        if (i + j * kStride < end) body(i + j * kStride, packs[j]);
      }
    }
  }
};

/// gradient[i] = factor * exp(logit - shift). Each thread writes what it alone has read, so the
/// gradient may take the place of the logits.
template <typename Logit, typename Gradient, int kCount>
__device__ void write_softmax(Gradient* gradient, const Row<Logit, kCount>& row,
                              Compute<Logit> shift, Compute<Logit> factor,
                              const Cap<Compute<Logit>>& cap) {
  const bool packed = reinterpret_cast<std::uintptr_t>(gradient + row.head) % kVectorBytes == 0;
  const auto softmax = [=](Logit stored) {
    const Compute<Logit> logit = cap(load(stored));
    return round_to<Gradient>(std::exp(logit - shift) * factor * cap.slope(logit));
  };
  row.for_rest([&](Index i) { gradient[i] = softmax(row.data[i]); });
  row.for_packs([&](Index i, const Pack<Logit, kCount>& pack) {
    Pack<Gradient, kCount> result;
    LONGSPAN_UNROLL
    for (int j = 0; j < kCount; ++j) result.values[j] = softmax(pack.values[j]);
    if (packed) {
      store_pack(gradient + i, result);
      return;
    }
    LONGSPAN_UNROLL
    for (int j = 0; j < kCount; ++j) gradient[i + j] = result.values[j];
  });
}

template <typename Logit, typename Gradient>
struct Arguments {
  Compute<Logit>* nll;
  Gradient* gradient;  ///< may be null
  const Logit* logits;
  const std::int32_t* labels;
  Index gradient_stride, logits_stride;
  Index vocab;
  double scale;
  Cap<Compute<Logit>> cap;
};

/// One row a block: reads it once for the sum and once more for the gradient.
template <typename Logit, typename Gradient>
__global__ void __launch_bounds__(kThreads) row_kernel(Arguments<Logit, Gradient> with) {
  using Real = Compute<Logit>;
  constexpr Real kNaN = std::numeric_limits<Real>::quiet_NaN();
  const Index t = blockIdx.x;
  const std::int32_t label = with.labels[t];
  Gradient* gradient =
      with.gradient == nullptr ? nullptr : with.gradient + t * with.gradient_stride;
  const Row<Logit, kPackOf<Logit, Gradient>> row(with.logits + t * with.logits_stride, with.vocab);
  if (label == kIgnoredLabel) {
    if (threadIdx.x == 0) with.nll[t] = 0;
    for (Index i = threadIdx.x; gradient != nullptr && i < with.vocab; i += kThreads) {
      gradient[i] = round_to<Gradient>(Real(0));
    }
    return;
  }
  // A label that is none makes the loss NaN: the host cannot look at labels without waiting.
  const bool legal = label >= 0 && label < with.vocab;
  const Real labelled = legal ? with.cap(load(row.data[label])) : kNaN;
  Partial<Real> partial;
  row.for_rest([&](Index i) { add_terms(partial, Pack<Logit, 1>{{row.data[i]}}, with.cap); });
  row.for_packs([&](Index, const auto& pack) { add_terms(partial, pack, with.cap); });
  partial = merge_block(partial);  // and all threads have read the label's logit
  const Real shift = partial.highest;
  const double sum = shift == Partial<Real>::kNone ? static_cast<double>(kNaN) : partial.sum;
  if (gradient != nullptr) {
    write_softmax(gradient, row, shift, static_cast<Real>(with.scale / sum), with.cap);
    __syncthreads();  // the label's element comes last
  }
  if (threadIdx.x != 0) return;
  with.nll[t] =
      static_cast<Real>(static_cast<double>(shift) - static_cast<double>(labelled) + std::log(sum));
  if (gradient == nullptr || !legal) return;
  const double probability = static_cast<double>(std::exp(labelled - shift)) / sum;
  gradient[label] = round_to<Gradient>(static_cast<Real>(with.scale * (probability - 1.0)) *
                                       with.cap.slope(labelled));
}

template <typename Logit, typename Gradient>
void run(const Queue& queue, const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
         const Tensor& labels, const CrossEntropyOptions& options) {
  if (logits.size(0) == 0) return;
  const Arguments<Logit, Gradient> with{nll.data<Compute<Logit>>(),
                                        dlogits.defined() ? dlogits.data<Gradient>() : nullptr,
                                        logits.data<Logit>(),
                                        labels.data<std::int32_t>(),
                                        dlogits.row_stride(),
                                        logits.row_stride(),
                                        logits.size(1),
                                        options.scale,
                                        {static_cast<Compute<Logit>>(options.soft_cap)}};
  LONGSPAN_LAUNCH((row_kernel<Logit, Gradient>), static_cast<unsigned>(logits.size(0)), kThreads, 0,
                  queue.stream, with);
}

}  // namespace

void CudaKernels::cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                                const Tensor& labels, const CrossEntropyOptions& options) {
  const Operation operation(*this, "cross_entropy", logits);
  constexpr const char* kName = "cross_entropy";
  check_cross_entropy(nll, dlogits, logits, labels, options);
  dispatch_float(kName, "logits", logits, [&]<typename Logit>() {
    if (!dlogits.defined()) return run<Logit, Logit>(queue_, nll, dlogits, logits, labels, options);
    dispatch_float(kName, "dlogits", dlogits, [&]<typename Gradient>() {
      if constexpr (std::is_same_v<Compute<Logit>, Compute<Gradient>>) {
        run<Logit, Gradient>(queue_, nll, dlogits, logits, labels, options);
      }
    });
  });
}

}  // namespace longspan::backend::cuda
