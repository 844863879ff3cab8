#pragma once

#include <algorithm>
#include <cmath>

#include "backend/checks.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/row_sums.h"
#include "backend/cpu/vector_math.h"
#include "backend/elementwise/norm.h"
#include "backend/norm_tensors.h"

// What RMS norm and layer norm (kCentred) share: the loops over rows and columns.
namespace longspan::backend::cpu {

/// What is normalised together: a head of a token, or all of its row.
struct NormRow {
  Index token;
  Index head;
  Index heads;
  Index width;

  template <typename T>
  T* of(const Tensor& tensor) const {
    return tensor.data<std::remove_const_t<T>>() + token * tensor.row_stride() + head * width;
  }
  /// Its element of statistics.
  template <typename Real>
  Real& statistic(const Tensor& statistics) const {
    return statistics.data<Real>()[token * heads + head];
  }
};

/// Calls body(row) for all rows of a token.
template <typename Body>
void for_heads(const Tensor& x, Index token, const Body& body) {
  const Index heads = heads_of(x);
  for (Index head = 0; head < heads; ++head) body(NormRow{token, head, heads, width_of(x)});
}

template <typename Real>
struct RowStatistics {
  Real mean;
  Real rstd;
};

template <bool kCentred, typename T>
RowStatistics<Compute<T>> statistics_of(const T* x, Index hidden, float epsilon) {
  using Real = Compute<T>;
  const auto count = static_cast<Real>(hidden);
  Real mean = 0;
  Real variance = 0;
  if constexpr (kCentred) {
    mean = sum_of<Real>(hidden, [x](Index h) { return load(x[h]); }) / count;
    // In two passes, corrected by what rounding left in the mean (Chan, Golub & LeVeque 1983).
    const Real off = sum_of<Real>(hidden, [=](Index h) { return load(x[h]) - mean; }) / count;
    const Real squares = sum_of<Real>(hidden, [=](Index h) {
      const Real distance = load(x[h]) - mean;
      return distance * distance;
    });
    variance = std::max(Real(0), squares / count - off * off);
    mean += off;
  } else {
    variance = sum_of<Real>(hidden, [x](Index h) { return load(x[h]) * load(x[h]); }) / count;
  }
  return {mean, Real(1) / std::sqrt(variance + static_cast<Real>(epsilon))};
}

/// The one place that forms the output: forward and again agree bit for bit.
template <bool kCentred, typename T>
void normalise_row(const NormTensors& norm, const NormRow& row, RowStatistics<Compute<T>> of) {
  using Real = Compute<T>;
  T* out = row.of<T>(norm.out);
  const T* x = row.of<const T>(norm.x);
  const T* weight = norm.weight.data<T>();
  const T* bias = kCentred ? norm.bias.data<T>() : nullptr;
  const auto offset = static_cast<Real>(norm.options.weight_offset);
#pragma omp simd
  for (Index h = 0; h < row.width; ++h) {
    Real value =
        normalised(centred<kCentred>(load(x[h]), of.mean), of.rstd, offset + load(weight[h]));
    if constexpr (kCentred) value += load(bias[h]);
    out[h] = round_to<T>(value);
  }
}

/// The norm of every row; `make(token)` is called first, to make x.
template <bool kCentred, typename T, typename Make>
void normalise(const NormTensors& norm, const Make& make) {
  using Real = Compute<T>;
  parallel_for(norm.x.size(0), norm.x.row_elements(), [&](Index token) {
    make(token);
    for_heads(norm.x, token, [&](const NormRow& row) {
      const auto of =
          statistics_of<kCentred>(row.of<const T>(norm.x), row.width, norm.options.epsilon);
      row.statistic<Real>(norm.rstd) = of.rstd;
      if constexpr (kCentred) row.statistic<Real>(norm.mean) = of.mean;
      normalise_row<kCentred, T>(norm, row, of);
    });
  });
}

/// The norm of every row.
template <bool kCentred>
void normalise(const char* operation, const NormTensors& norm) {
  dispatch_float(operation, "x", norm.x,
                 [&]<typename T>() { normalise<kCentred, T>(norm, [](Index /*token*/) {}); });
}

/// x = a + b first.
template <bool kCentred>
void add_and_normalise(const char* operation, const NormTensors& norm) {
  dispatch_float(operation, "sum", norm.x, [&]<typename T>() {
    const Index hidden = norm.x.size(1);
    normalise<kCentred, T>(norm, [&](Index token) {
      const NormRow row{token, 0, 1, hidden};
      T* sum = row.of<T>(norm.x);
      const T* one = row.of<const T>(norm.a);
      const T* other = row.of<const T>(norm.b);
#pragma omp simd
      for (Index h = 0; h < hidden; ++h) sum[h] = round_to<T>(load(one[h]) + load(other[h]));
    });
  });
}

/// dx = residual + the gradient through the norm; adds to a block's shares what the row gives
/// (kWeights).
template <bool kCentred, bool kResidual, bool kWeights, typename T>
void backward_row(const NormGradientTensors& norm, const NormRow& row, Compute<T>* dweight,
                  Compute<T>* dbias) {
  using Real = Compute<T>;
  T* dx = row.of<T>(norm.dx);
  const T* dy = row.of<const T>(norm.dy);
  const T* residual = kResidual ? row.of<const T>(norm.residual) : nullptr;
  const T* x = row.of<const T>(norm.x);
  const T* weight = norm.weight.data<T>();
  const auto weight_offset = static_cast<Real>(norm.options.weight_offset);
  const auto width = static_cast<Real>(row.width);
  const Real mean = kCentred ? row.statistic<Real>(norm.mean) : Real(0);
  const Real rstd = row.statistic<Real>(norm.rstd);
  const Real product = sum_of<Real>(row.width, [=](Index h) {
    return norm_product<Real>(load(dy[h]), weight_offset + load(weight[h]),
                              centred<kCentred>(load(x[h]), mean));
  });
  const Real slope = norm_slope(product, width, rstd);
  Real offset = 0;
  if constexpr (kCentred) {
    offset =
        sum_of<Real>(row.width, [=](Index h) { return load(dy[h]) * load(weight[h]); }) / width;
  }
#pragma omp simd
  for (Index h = 0; h < row.width; ++h) {
    const Real upstream = load(dy[h]);
    const Real value = centred<kCentred>(load(x[h]), mean);
    if constexpr (kWeights) dweight[h] += norm_weight_gradient(upstream, value, rstd);
    if constexpr (kWeights && kCentred) dbias[h] += upstream;
    Real sum =
        norm_gradient<Real>(upstream, weight_offset + load(weight[h]), value, rstd, slope, offset);
    if constexpr (kResidual) sum = load(residual[h]) + sum;
    dx[h] = round_to<T>(sum);
  }
}

template <bool kCentred, bool kResidual, typename T>
void backward(const NormGradientTensors& norm) {
  using Real = Compute<T>;
  const Index hidden = width_of(norm.x);
  if (!norm.dweight.defined()) {
    return parallel_for(norm.x.size(0), norm.x.row_elements(), [&](Index token) {
      for_heads(norm.x, token, [&](const NormRow& row) {
        backward_row<kCentred, kResidual, /*kWeights=*/false, T>(norm, row, nullptr, nullptr);
      });
    });
  }
  const Index width = kCentred ? 2 * hidden : hidden;  // dweight, then dbias
  const RowSums<Real> sums(norm.x.size(0), width, [&](Index token, Real* share) {
    for_heads(norm.x, token, [&](const NormRow& row) {
      backward_row<kCentred, kResidual, /*kWeights=*/true, T>(norm, row, share, share + hidden);
    });
  });
  sums.add_to(norm.dweight.data<Real>(), 0, hidden);
  if constexpr (kCentred) sums.add_to(norm.dbias.data<Real>(), hidden, hidden);
}

template <bool kCentred>
void backward(const char* operation, const NormGradientTensors& norm) {
  dispatch_float(operation, "x", norm.x, [&]<typename T>() {
    if (norm.residual.defined()) return backward<kCentred, true, T>(norm);
    backward<kCentred, false, T>(norm);
  });
}

}  // namespace longspan::backend::cpu
