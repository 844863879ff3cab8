#pragma once

#include "backend/checks.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/cuda/kernels/row_sum.h"
#include "backend/elementwise/norm.h"
#include "backend/norm_tensors.h"

// RMS norm and layer norm (kCentred), forward, and what their backward needs as well.
//
// A row belongs to a group of threads (threadIdx.x), each of which takes every blockDim.x-th pack
// of it. The first few packs of a thread stay in registers from the sums to the result; of a
// longer row the rest is read again. Which thread sums what depends on the shape alone.
namespace longspan::backend::cuda {

inline constexpr int kHeldForward = 4;
inline constexpr Index kMostThreadsForward = 512;  // more would leave them too few registers
inline constexpr Index kUsualThreads = 128;        // of a block; short rows share one

/// Threads that share a row: a power of two of whole warps.
template <typename T>
Index threads_of_row(Index hidden, Index held, Index most) {
  const Index packs = divide_up(hidden, kPack<T>);
  return std::clamp<Index>(power_of_two(divide_up(packs, held)), kLanes, most);
}

/// Reads those packs of this thread's that stay in registers, all on their way at once.
template <int kCount, int kHeld, typename Held, typename Read>
__device__ void hold_row(Index hidden, Held (&held)[kHeld], const Read& read) {
  LONGSPAN_UNROLL
  for (int i = 0; i < kHeld; ++i) {
    const Index column = (threadIdx.x + i * static_cast<Index>(blockDim.x)) * kCount;
    if (column < hidden) held[i] = read(column);
  }
}

/// Calls visit(column, pack) for all packs of this thread's; `read` gives those that are not held.
template <int kCount, int kHeld, typename Held, typename Read, typename Visit>
__device__ void visit_row(Index hidden, Held (&held)[kHeld], const Read& read, const Visit& visit) {
  const Index first = static_cast<Index>(threadIdx.x) * kCount;
  const Index step = static_cast<Index>(blockDim.x) * kCount;
  LONGSPAN_UNROLL
  for (int i = 0; i < kHeld; ++i) {
    const Index column = first + i * step;
    if (column < hidden) visit(column, held[i]);
  }
  for (Index column = first + kHeld * step; column < hidden; column += step) {
    visit(column, read(column));
  }
}

/// held = add(column, held, what `read` gives), two packs at a time: their reads are on their way
/// before the first sum is written, which might be what is read; more would not fit in registers.
template <int kHeld, int kCount, typename T, typename Read, typename Add>
__device__ void add_to_held(Index hidden, Pack<T, kCount> (&held)[kHeld], const Read& read,
                            const Add& add) {
  const auto column_of = [](int i) {
    return (threadIdx.x + i * static_cast<Index>(blockDim.x)) * kCount;
  };
  LONGSPAN_UNROLL
  for (int i = 0; i < kHeld; i += 2) {
    Pack<T, kCount> others[2] = {};
    LONGSPAN_UNROLL
    for (int j = 0; j < 2; ++j) {
      if (column_of(i + j) < hidden) others[j] = read(column_of(i + j));
    }
    LONGSPAN_UNROLL
    for (int j = 0; j < 2; ++j) {
      const Index column = column_of(i + j);
      if (column < hidden) held[i + j] = add(column, held[i + j], others[j]);
    }
  }
}

// --- forward ------------------------------------------------------------------------------------

enum class NormMode {
  kForward,
  kAdd,    // x is made first, of a and b
  kAgain,  // the saved rstd is read; of RMS norm
};

template <typename T>
struct NormRows {
  Rows<T> out;
  Compute<T>* mean;  // of layer norm
  Compute<T>* rstd;
  Rows<T> x;
  Rows<const T> a;  // of kAdd
  Rows<const T> b;
  const T* weight;
  const T* bias;  // of layer norm
  Compute<T> weight_offset;
  Compute<T> epsilon;
  Index rows;
  Index hidden;

  /// The head blockIdx.y of every row is normalised for itself, or the whole row.
  __device__ void enter_head() {
    const Index first = blockIdx.y * hidden;
    out.data += first;
    x.data += first;
  }
  /// Of the head that was entered.
  __device__ static Index statistic(Index row) { return row * gridDim.y + blockIdx.y; }
};

template <bool kAligned, typename T>
__device__ Pack<T, kPack<T>> load_columns(const NormRows<T>& norm, const Rows<const T>& from,
                                          Index row, Index column) {
  return load_pack<kAligned, kPack<T>>(from.at(row, column), norm.hidden - column);
}

/// Writes a pack of x = a + b and returns it.
template <bool kAligned, typename T>
__device__ Pack<T, kPack<T>> add_packs(const NormRows<T>& norm, Index row, Index column,
                                       const Pack<T, kPack<T>>& a, const Pack<T, kPack<T>>& b) {
  Pack<T, kPack<T>> sum;
  LONGSPAN_UNROLL
  for (int k = 0; k < kPack<T>; ++k) {
    sum.values[k] = round_to<T>(load(a.values[k]) + load(b.values[k]));
  }
  store_pack<kAligned>(norm.x.at(row, column), sum, norm.hidden - column);
  return sum;
}

template <typename Real>
struct RowStatistics {
  Real mean;
  Real rstd;
};

/// Writes the output of a pack.
template <bool kAligned, bool kCentred, typename T>
__device__ void normalise_pack(const NormRows<T>& norm, Index row, Index column,
                               const RowStatistics<Compute<T>>& of, const Pack<T, kPack<T>>& x) {
  using Real = Compute<T>;
  const Index left = norm.hidden - column;
  const auto weight = load_pack<kAligned, kPack<T>>(norm.weight + column, left);
  Pack<T, kPack<T>> bias;
  if constexpr (kCentred) bias = load_pack<kAligned, kPack<T>>(norm.bias + column, left);
  Pack<T, kPack<T>> out;
  LONGSPAN_UNROLL
  for (int k = 0; k < kPack<T>; ++k) {
    const Real value = centred<kCentred>(load(x.values[k]), of.mean);
    Real result = normalised(value, of.rstd, norm.weight_offset + load(weight.values[k]));
    if constexpr (kCentred) result += load(bias.values[k]);
    out.values[k] = round_to<T>(result);
  }
  store_pack<kAligned>(norm.out.at(row, column), out, left);
}

/// Sum of `term` over the elements of a row, the same bits in all of its threads. `visit` goes over
/// this thread's packs, behind whose end are zeros: their term must be 0. `partial` as row_sum
/// wants it.
template <typename T, typename Visit, typename Term>
__device__ Compute<T> sum_of_row(const Visit& visit, Compute<T>* partial, const Term& term) {
  Compute<T> sum = 0;
  visit([&](Index /*column*/, const Pack<T, kPack<T>>& pack) {
    LONGSPAN_UNROLL
    for (int k = 0; k < kPack<T>; ++k) sum += term(load(pack.values[k]));
  });
  return row_sum(sum, partial);
}

/// The mean, of which a first sum is known, and the variance: in two passes, corrected by what
/// rounding left in the first mean (Chan, Golub & LeVeque 1983). `partials` are two.
template <typename T, typename Visit>
__device__ RowStatistics<Compute<T>> centred_statistics(Index hidden, Compute<T> mean,
                                                        const Visit& visit,
                                                        Compute<T>* const (&partials)[2],
                                                        Compute<T> epsilon) {
  using Real = Compute<T>;
  Real off = 0;
  Real squares = 0;
  visit([&](Index column, const Pack<T, kPack<T>>& pack) {
    const auto left = static_cast<int>(std::min<Index>(kPack<T>, hidden - column));
    LONGSPAN_UNROLL
    for (int k = 0; k < kPack<T>; ++k) {
      const Real distance = k < left ? load(pack.values[k]) - mean : Real(0);
      off += distance;
      squares += distance * distance;
    }
  });
  const auto count = static_cast<Real>(hidden);
  off = row_sum(off, partials[0]) / count;
  const Real variance = std::max(Real(0), row_sum(squares, partials[1]) / count - off * off);
  return {mean + off, Real(1) / std::sqrt(variance + epsilon)};
}

/// `visit_first` is the first to go over the packs, `visit` goes over them again.
template <bool kCentred, typename T, typename VisitFirst, typename Visit>
__device__ RowStatistics<Compute<T>> statistics_of(const NormRows<T>& norm,
                                                   const VisitFirst& visit_first,
                                                   const Visit& visit, Compute<T> epsilon) {
  using Real = Compute<T>;
  Real* partial = dynamic_shared_memory<Real>();  // two: each sum's barrier frees the one before
  Real* other = partial + blockDim.x * blockDim.y / kLanes;
  const auto count = static_cast<Real>(norm.hidden);
  if constexpr (kCentred) {
    const Real mean = sum_of_row<T>(visit_first, partial, [](Real x) { return x; }) / count;
    return centred_statistics<T>(norm.hidden, mean, visit, {other, partial}, epsilon);
  } else {
    const Real squares = sum_of_row<T>(visit_first, partial, [](Real x) { return x * x; });
    return {Real(0), Real(1) / std::sqrt(squares / count + epsilon)};
  }
}

template <typename T, bool kAligned, bool kCentred, NormMode kMode>
__global__ void __launch_bounds__(kMostThreadsForward) normalise_rows(NormRows<T> norm) {
  constexpr int kCount = kPack<T>;
  norm.enter_head();
  const Index row = static_cast<Index>(blockIdx.x) * blockDim.y + threadIdx.y;
  const Index hidden = row < norm.rows ? norm.hidden : 0;  // without a row threads stay for sums
  const Rows<const T> x{norm.x.data, norm.x.stride};
  const auto read = [&](Index column) { return load_columns<kAligned>(norm, x, row, column); };
  const auto read_a = [&](Index column) {
    return load_columns<kAligned>(norm, norm.a, row, column);
  };
  const auto read_b = [&](Index column) {
    return load_columns<kAligned>(norm, norm.b, row, column);
  };
  const auto make = [&](Index column) {
    if constexpr (kMode == NormMode::kAdd) {
      return add_packs<kAligned>(norm, row, column, read_a(column), read_b(column));
    } else {
      return read(column);
    }
  };
  Pack<T, kCount> held[kHeldForward] = {};
  if constexpr (kMode == NormMode::kAdd) {
    hold_row<kCount>(hidden, held, read_a);
    add_to_held(hidden, held, read_b, [&](Index column, const auto& a, const auto& b) {
      return add_packs<kAligned>(norm, row, column, a, b);
    });
  } else {
    hold_row<kCount>(hidden, held, read);
  }
  RowStatistics<Compute<T>> of{};
  if constexpr (kMode == NormMode::kAgain) {
    if (hidden > 0) of.rstd = norm.rstd[norm.statistic(row)];
  } else {
    of = statistics_of<kCentred>(
        norm, [&](const auto& visit) { visit_row<kCount>(hidden, held, make, visit); },
        [&](const auto& visit) { visit_row<kCount>(hidden, held, read, visit); }, norm.epsilon);
    if (hidden > 0 && threadIdx.x == 0) {
      norm.rstd[norm.statistic(row)] = of.rstd;
      if constexpr (kCentred) norm.mean[norm.statistic(row)] = of.mean;
    }
  }
  visit_row<kCount>(hidden, held, read, [&](Index column, const Pack<T, kCount>& pack) {
    normalise_pack<kAligned, kCentred>(norm, row, column, of, pack);
  });
}

// --- on the host --------------------------------------------------------------------------------

/// Of a tensor that may be undefined.
template <typename T>
Rows<T> rows_of(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.data<std::remove_const_t<T>>(), tensor.row_stride()};
}
template <typename T>
T* vector_of(const Tensor& vector) {
  return vector.defined() ? vector.data<T>() : nullptr;
}

inline bool rows_aligned(std::initializer_list<Tensor> tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const Tensor& tensor) {
    return !tensor.defined() || packs_aligned(tensor);
  });
}

/// Whether every head of a row is, if its first one is.
inline bool heads_aligned(const Tensor& x) {
  const auto bytes = width_of(x) * static_cast<Index>(base::size_of(x.dtype()));
  return heads_of(x) == 1 || bytes % kVectorBytes == 0;
}

template <bool kCentred, NormMode kMode>
void normalise(const char* operation, const Queue& queue, const NormTensors& tensors) {
  const Index count = tensors.x.size(0);
  const Index hidden = width_of(tensors.x);
  if (tensors.x.elements() == 0) return;
  dispatch_float(operation, "x", tensors.x, [&]<typename T>() {
    using Real = Compute<T>;
    const Index threads = threads_of_row<T>(hidden, kHeldForward, kMostThreadsForward);
    const Index rows = std::max<Index>(1, kUsualThreads / threads);
    const dim3 block(static_cast<unsigned>(threads), static_cast<unsigned>(rows));
    const dim3 grid(static_cast<unsigned>(divide_up(count, rows)),
                    static_cast<unsigned>(heads_of(tensors.x)));
    const std::size_t shared = static_cast<std::size_t>(2 * threads * rows / kLanes) * sizeof(Real);
    NormRows<T> norm{};
    norm.out = rows_of<T>(tensors.out);
    norm.mean = vector_of<Real>(tensors.mean);
    norm.rstd = vector_of<Real>(tensors.rstd);
    norm.x = rows_of<T>(tensors.x);
    norm.a = rows_of<const T>(tensors.a);
    norm.b = rows_of<const T>(tensors.b);
    norm.weight = vector_of<T>(tensors.weight);
    norm.bias = vector_of<T>(tensors.bias);
    norm.weight_offset = static_cast<Real>(tensors.options.weight_offset);
    norm.epsilon = static_cast<Real>(tensors.options.epsilon);
    norm.rows = count;
    norm.hidden = hidden;
    const bool aligned = rows_aligned({tensors.out, tensors.x, tensors.a, tensors.b}) &&
                         heads_aligned(tensors.x) && vector_aligned(tensors.weight) &&
                         vector_aligned(tensors.bias);
    with_alignment(aligned, [&]<bool kAligned>() {
      LONGSPAN_LAUNCH((normalise_rows<T, kAligned, kCentred, kMode>), grid, block, shared,
                      queue.stream, norm);
    });
  });
}

}  // namespace longspan::backend::cuda
