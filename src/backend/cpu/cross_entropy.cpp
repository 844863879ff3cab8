#include <limits>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/elementwise/soft_cap.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

/// The logits of a row as the loss sees them.
template <bool kCapped, typename Logit>
struct Row {
  using Real = Compute<Logit>;

  const Logit* logits;
  Real cap;

  Real operator[](Index i) const { return capped(load(logits[i])); }
  Real capped(Real logit) const {
    if constexpr (kCapped) return cap * hyperbolic_tangent(logit / cap);
    return logit;
  }
  /// The derivative of a capped logit by the logit.
  Real slope(Real capped_logit) const {
    if constexpr (kCapped) return soft_cap_slope(capped_logit / cap);
    return Real(1);
  }
};

/// Largest logit that is a number; -inf when there is none.
template <bool kCapped, typename Logit>
Compute<Logit> largest(const Row<kCapped, Logit>& row, Index vocab) {
  using Real = Compute<Logit>;
  return reduce(
      vocab, -std::numeric_limits<Real>::infinity(), [row](Index i) { return row[i]; },
      [](Real a, Real b) { return b > a ? b : a; });
}

/// Sum of exp(logit - shift). Blocks are added in double: a long row costs no precision.
template <bool kCapped, typename Logit>
double sum_of_exponentials(const Row<kCapped, Logit>& row, Index vocab, Compute<Logit> shift) {
  constexpr Index kBlock = 2048;
  double sum = 0.0;
  for (Index begin = 0; begin < vocab; begin += kBlock) {
    sum += sum_of<Compute<Logit>>(std::min(kBlock, vocab - begin),
                                  [=](Index i) { return exponential(row[begin + i] - shift); });
  }
  return sum;
}

/// The row stays in the cache between its three passes: the largest logit, the sum, the gradient.
template <bool kCapped, typename Logit, typename Gradient>
Compute<Logit> row_loss(Gradient* gradient, const Row<kCapped, Logit>& row, std::int32_t label,
                        Index vocab, double scale) {
  using Real = Compute<Logit>;
  if (label == kIgnoredLabel) {
    if (gradient != nullptr) std::fill_n(gradient, vocab, round_to<Gradient>(Real(0)));
    return Real(0);
  }
  const Real labelled = row[label];  // before the gradient may replace it
  const Real shift = largest(row, vocab);
  const double sum = sum_of_exponentials(row, vocab, shift);
  if (gradient != nullptr) {
    const auto factor = static_cast<Real>(scale / sum);
#pragma omp simd
    for (Index i = 0; i < vocab; ++i) {
      const Real logit = row[i];
      gradient[i] = round_to<Gradient>(exponential(logit - shift) * factor * row.slope(logit));
    }
    const double probability = static_cast<double>(exponential(labelled - shift)) / sum;
    gradient[label] =
        round_to<Gradient>(static_cast<Real>(scale * (probability - 1.0)) * row.slope(labelled));
  }
  return static_cast<Real>(static_cast<double>(shift) - static_cast<double>(labelled) +
                           std::log(sum));
}

template <bool kCapped, typename Logit, typename Gradient>
void run(const Tensor& nll, const Tensor& dlogits, const Tensor& logits, const Tensor& labels,
         const CrossEntropyOptions& options) {
  constexpr Index kCostOfElement = kCapped ? 12 : 4;  // two exponentials, three tangents
  const Index vocab = logits.size(1);
  parallel_for(logits.size(0), vocab * kCostOfElement, [&](Index t) {
    Gradient* gradient =
        dlogits.defined() ? dlogits.data<Gradient>() + t * dlogits.row_stride() : nullptr;
    nll.data<Compute<Logit>>()[t] =
        row_loss(gradient,
                 Row<kCapped, Logit>{logits.data<Logit>() + t * logits.row_stride(),
                                     static_cast<Compute<Logit>>(options.soft_cap)},
                 labels.data<std::int32_t>()[t], vocab, options.scale);
  });
}

template <typename Logit, typename Gradient>
void run(const Tensor& nll, const Tensor& dlogits, const Tensor& logits, const Tensor& labels,
         const CrossEntropyOptions& options) {
  if (options.soft_cap > 0) {
    return run<true, Logit, Gradient>(nll, dlogits, logits, labels, options);
  }
  run<false, Logit, Gradient>(nll, dlogits, logits, labels, options);
}

void check_labels(const Tensor& labels, Index rows, Index vocab) {
  const auto* label = labels.data<std::int32_t>();
  for (Index t = 0; t < rows; ++t) {
    if (label[t] != kIgnoredLabel && (label[t] < 0 || label[t] >= vocab)) {
      contract_broken("cross_entropy", "the label of row " + std::to_string(t) + " is " +
                                           std::to_string(label[t]) + "; expected 0 to " +
                                           std::to_string(vocab - 1) + ", or " +
                                           std::to_string(kIgnoredLabel));
    }
  }
}

}  // namespace

void CpuBackend::cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                               const Tensor& labels, const CrossEntropyOptions& options) {
  const Operation operation(*this, "cross_entropy", logits);
  constexpr const char* kName = "cross_entropy";
  check_cross_entropy(nll, dlogits, logits, labels, options);
  check_labels(labels, logits.size(0), logits.size(1));
  dispatch_float(kName, "logits", logits, [&]<typename Logit>() {
    if (!dlogits.defined()) return run<Logit, Logit>(nll, dlogits, logits, labels, options);
    dispatch_float(kName, "dlogits", dlogits, [&]<typename Gradient>() {
      if constexpr (std::is_same_v<Compute<Logit>, Compute<Gradient>>) {
        run<Logit, Gradient>(nll, dlogits, logits, labels, options);
      }
    });
  });
}

}  // namespace longspan::backend::cpu
