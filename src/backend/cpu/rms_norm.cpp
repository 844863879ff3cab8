#include <memory>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/elementwise/rms_norm.h"

namespace longspan::backend::cpu {
namespace {

/// The one place that forms the output: forward and again agree bit for bit.
template <typename T>
void normalise_row(T* out, const T* x, const T* weight, Compute<T> rstd, Index hidden) {
#pragma omp simd
  for (Index h = 0; h < hidden; ++h) {
    out[h] = round_to<T>(normalised<Compute<T>>(load(x[h]), rstd, load(weight[h])));
  }
}

template <typename T>
Compute<T> reciprocal_root(const T* x, Index hidden, float epsilon) {
  using Real = Compute<T>;
  const Real squares = sum_of<Real>(hidden, [x](Index h) { return load(x[h]) * load(x[h]); });
  return Real(1) / std::sqrt(squares / static_cast<Real>(hidden) + static_cast<Real>(epsilon));
}

template <typename T>
void add_row(T* sum, const T* a, const T* b, Index hidden) {
#pragma omp simd
  for (Index h = 0; h < hidden; ++h) sum[h] = round_to<T>(load(a[h]) + load(b[h]));
}

/// The rows of one backward call in at most 64 blocks, whatever the number of threads: each sums
/// its share of dweight, and the shares are added in order.
struct RowBlocks {
  static constexpr Index kMost = 64;
  static constexpr Index kFewestRows = 16;

  explicit RowBlocks(Index rows)
      : total(rows),
        rows_each(std::max(kFewestRows, divide_up(rows, kMost))),
        count(divide_up(rows, rows_each)) {}
  Index begin(Index block) const { return block * rows_each; }
  Index end(Index block) const { return std::min(total, begin(block) + rows_each); }

  Index total;
  Index rows_each;
  Index count;
};

/// dx = residual + the gradient through the norm, and dweight += what the row adds to it.
template <typename T>
void backward_row(T* dx, Compute<T>* dweight, const T* dy, const T* residual, Compute<T> rstd,
                  const T* x, const T* weight, Index hidden) {
  using Real = Compute<T>;
  const Real product = sum_of<Real>(hidden, [=](Index h) {
    return norm_product<Real>(load(dy[h]), load(weight[h]), load(x[h]));
  });
  const Real slope = norm_slope(product, static_cast<Real>(hidden), rstd);
  if (residual == nullptr) {
#pragma omp simd
    for (Index h = 0; h < hidden; ++h) {
      const Real upstream = load(dy[h]);
      const Real value = load(x[h]);
      dweight[h] += norm_weight_gradient(upstream, value, rstd);
      dx[h] = round_to<T>(norm_gradient<Real>(upstream, load(weight[h]), value, rstd, slope));
    }
    return;
  }
#pragma omp simd
  for (Index h = 0; h < hidden; ++h) {
    const Real upstream = load(dy[h]);
    const Real value = load(x[h]);
    dweight[h] += norm_weight_gradient(upstream, value, rstd);
    const Real through = norm_gradient<Real>(upstream, load(weight[h]), value, rstd, slope);
    dx[h] = round_to<T>(load(residual[h]) + through);
  }
}

/// dweight[h] += the blocks' shares, in the order of the blocks.
template <typename Real>
void add_shares(Real* dweight, const Real* shares, Index blocks, Index hidden) {
  constexpr Index kColumns = 512;
  parallel_for(divide_up(hidden, kColumns), kColumns * blocks, [&](Index slice) {
    const Index begin = slice * kColumns;
    const Index end = std::min(hidden, begin + kColumns);
    for (Index block = 0; block < blocks; ++block) {
      const Real* share = shares + block * hidden;
#pragma omp simd
      for (Index h = begin; h < end; ++h) dweight[h] += share[h];
    }
  });
}

template <typename T>
void backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy, const Tensor& residual,
              const Tensor& rstd, const Tensor& x, const Tensor& weight) {
  using Real = Compute<T>;
  const Index hidden = x.size(1);
  const RowBlocks blocks(x.size(0));
  const auto shares =
      std::make_unique_for_overwrite<Real[]>(static_cast<std::size_t>(blocks.count * hidden));
  parallel_for(blocks.count, blocks.rows_each * hidden, [&](Index block) {
    Real* share = shares.get() + block * hidden;
    std::fill_n(share, hidden, Real(0));
    for (Index t = blocks.begin(block); t < blocks.end(block); ++t) {
      const T* kept = residual.defined() ? residual.data<T>() + t * residual.row_stride() : nullptr;
      backward_row<T>(dx.data<T>() + t * dx.row_stride(), share, dy.data<T>() + t * dy.row_stride(),
                      kept, rstd.data<Real>()[t], x.data<T>() + t * x.row_stride(),
                      weight.data<T>(), hidden);
    }
  });
  add_shares(dweight.data<Real>(), shares.get(), blocks.count, hidden);
}

}  // namespace

void rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& x, const Tensor& weight,
                      float epsilon) {
  check_rms_norm("rms_norm_forward", out, rstd, x, weight);
  dispatch_float("rms_norm_forward", "x", x, [&]<typename T>() {
    const Index hidden = x.size(1);
    parallel_for(x.size(0), hidden, [&](Index t) {
      const T* row = x.data<T>() + t * x.row_stride();
      const Compute<T> scale = reciprocal_root(row, hidden, epsilon);
      rstd.data<Compute<T>>()[t] = scale;
      normalise_row(out.data<T>() + t * out.row_stride(), row, weight.data<T>(), scale, hidden);
    });
  });
}

void add_rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& sum, const Tensor& a,
                          const Tensor& b, const Tensor& weight, float epsilon) {
  check_add_rms_norm(out, rstd, sum, a, b, weight);
  dispatch_float("add_rms_norm_forward", "sum", sum, [&]<typename T>() {
    const Index hidden = sum.size(1);
    parallel_for(sum.size(0), hidden, [&](Index t) {
      T* row = sum.data<T>() + t * sum.row_stride();
      add_row(row, a.data<T>() + t * a.row_stride(), b.data<T>() + t * b.row_stride(), hidden);
      const Compute<T> scale = reciprocal_root<T>(row, hidden, epsilon);
      rstd.data<Compute<T>>()[t] = scale;
      normalise_row(out.data<T>() + t * out.row_stride(), row, weight.data<T>(), scale, hidden);
    });
  });
}

void rms_norm_again(const Tensor& out, const Tensor& rstd, const Tensor& x, const Tensor& weight) {
  check_rms_norm("rms_norm_again", out, rstd, x, weight);
  dispatch_float("rms_norm_again", "x", x, [&]<typename T>() {
    const Index hidden = x.size(1);
    parallel_for(x.size(0), hidden, [&](Index t) {
      normalise_row(out.data<T>() + t * out.row_stride(), x.data<T>() + t * x.row_stride(),
                    weight.data<T>(), rstd.data<Compute<T>>()[t], hidden);
    });
  });
}

void rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                       const Tensor& residual, const Tensor& rstd, const Tensor& x,
                       const Tensor& weight) {
  check_rms_norm_backward(dx, dweight, dy, residual, rstd, x, weight);
  dispatch_float("rms_norm_backward", "x", x,
                 [&]<typename T>() { backward<T>(dx, dweight, dy, residual, rstd, x, weight); });
}

}  // namespace longspan::backend::cpu
