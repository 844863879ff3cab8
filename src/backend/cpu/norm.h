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

template <typename T>
T* row_of(const Tensor& tensor, Index row) {
  return tensor.data<std::remove_const_t<T>>() + row * tensor.row_stride();
}

/// Element `row` of statistics that may be undefined.
template <typename Real>
Real statistic_of(const Tensor& tensor, Index row) {
  return tensor.defined() ? tensor.data<Real>()[row] : Real(0);
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
void normalise_row(const NormTensors& norm, Index row, RowStatistics<Compute<T>> of) {
  using Real = Compute<T>;
  T* out = row_of<T>(norm.out, row);
  const T* x = row_of<T>(norm.x, row);
  const T* weight = norm.weight.data<T>();
  const T* bias = kCentred ? norm.bias.data<T>() : nullptr;
  const Index hidden = norm.x.size(1);
#pragma omp simd
  for (Index h = 0; h < hidden; ++h) {
    Real value = normalised(centred<kCentred>(load(x[h]), of.mean), of.rstd, load(weight[h]));
    if constexpr (kCentred) value += load(bias[h]);
    out[h] = round_to<T>(value);
  }
}

/// The norm of every row; `make_row(row)` is called first, to make x.
template <bool kCentred, typename T, typename MakeRow>
void normalise(const NormTensors& norm, float epsilon, const MakeRow& make_row) {
  using Real = Compute<T>;
  const Index hidden = norm.x.size(1);
  parallel_for(norm.x.size(0), hidden, [&](Index row) {
    make_row(row);
    const auto of = statistics_of<kCentred>(row_of<const T>(norm.x, row), hidden, epsilon);
    norm.rstd.data<Real>()[row] = of.rstd;
    if constexpr (kCentred) norm.mean.data<Real>()[row] = of.mean;
    normalise_row<kCentred, T>(norm, row, of);
  });
}

/// The norm of every row.
template <bool kCentred>
void normalise(const char* operation, const NormTensors& norm, float epsilon) {
  dispatch_float(operation, "x", norm.x, [&]<typename T>() {
    normalise<kCentred, T>(norm, epsilon, [](Index /*row*/) {});
  });
}

/// x = a + b first.
template <bool kCentred>
void add_and_normalise(const char* operation, const NormTensors& norm, float epsilon) {
  dispatch_float(operation, "sum", norm.x, [&]<typename T>() {
    const Index hidden = norm.x.size(1);
    normalise<kCentred, T>(norm, epsilon, [&](Index row) {
      T* sum = row_of<T>(norm.x, row);
      const T* one = row_of<const T>(norm.a, row);
      const T* other = row_of<const T>(norm.b, row);
#pragma omp simd
      for (Index h = 0; h < hidden; ++h) sum[h] = round_to<T>(load(one[h]) + load(other[h]));
    });
  });
}

/// dx = residual + the gradient through the norm; adds to a block's shares what the row gives.
template <bool kCentred, bool kResidual, typename T>
void backward_row(const NormGradientTensors& norm, Index row, Compute<T>* dweight,
                  Compute<T>* dbias) {
  using Real = Compute<T>;
  T* dx = row_of<T>(norm.dx, row);
  const T* dy = row_of<const T>(norm.dy, row);
  const T* residual = kResidual ? row_of<const T>(norm.residual, row) : nullptr;
  const T* x = row_of<const T>(norm.x, row);
  const T* weight = norm.weight.data<T>();
  const Index hidden = norm.x.size(1);
  const Real mean = statistic_of<Real>(norm.mean, row);
  const Real rstd = norm.rstd.data<Real>()[row];
  const Real product = sum_of<Real>(hidden, [=](Index h) {
    return norm_product<Real>(load(dy[h]), load(weight[h]), centred<kCentred>(load(x[h]), mean));
  });
  const Real slope = norm_slope(product, static_cast<Real>(hidden), rstd);
  Real offset = 0;
  if constexpr (kCentred) {
    offset = sum_of<Real>(hidden, [=](Index h) { return load(dy[h]) * load(weight[h]); }) /
             static_cast<Real>(hidden);
  }
#pragma omp simd
  for (Index h = 0; h < hidden; ++h) {
    const Real upstream = load(dy[h]);
    const Real value = centred<kCentred>(load(x[h]), mean);
    dweight[h] += norm_weight_gradient(upstream, value, rstd);
    if constexpr (kCentred) dbias[h] += upstream;
    Real sum = norm_gradient<Real>(upstream, load(weight[h]), value, rstd, slope, offset);
    if constexpr (kResidual) sum = load(residual[h]) + sum;
    dx[h] = round_to<T>(sum);
  }
}

template <bool kCentred, bool kResidual, typename T>
void backward(const NormGradientTensors& norm) {
  using Real = Compute<T>;
  const Index hidden = norm.x.size(1);
  const Index width = kCentred ? 2 * hidden : hidden;  // dweight, then dbias
  const RowSums<Real> sums(norm.x.size(0), width, [&](Index row, Real* share) {
    backward_row<kCentred, kResidual, T>(norm, row, share, share + hidden);
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
