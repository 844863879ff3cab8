#include "backend/elementwise/rms_norm.h"

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/cuda/kernels/row_sum.h"
#include "backend/cuda_scratch.h"

// A row belongs to a group of threads (threadIdx.x), each of which takes every blockDim.x-th pack
// of it. The first few packs of a thread stay in registers from the sum to the result; of a
// longer row the rest is read twice. Which thread sums what depends on the shape alone.
namespace longspan::backend::cuda {
namespace {

constexpr int kHeldForward = 4;
constexpr int kHeldBackward = 2;  // of each of three inputs: more would not fit in registers
constexpr Index kMostThreadsForward = 1024;
constexpr Index kMostThreadsBackward = 512;  // more would leave them too few registers
constexpr Index kUsualThreads = 128;         // of a block; short rows share one
constexpr Index kSharedBytes = Index{48} << 10;

/// Threads that share a row: a power of two of whole warps.
template <typename T>
Index threads_of_row(Index hidden, Index held, Index most) {
  const Index packs = divide_up(hidden, kPack<T>);
  return std::clamp<Index>(power_of_two(divide_up(packs, held)), kLanes, most);
}

enum class Mode {
  kForward,
  kAdd,    // x is made first, of a and b
  kAgain,  // the saved rstd is read
};

template <typename T>
struct NormRows {
  Rows<T> out;
  Compute<T>* rstd;
  Rows<T> x;
  Rows<const T> a;  // of kAdd
  Rows<const T> b;
  const T* weight;
  Index rows;
  Index hidden;
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

template <bool kAligned, typename T>
__device__ void normalise_pack(const NormRows<T>& norm, Index row, Index column, Compute<T> rstd,
                               const Pack<T, kPack<T>>& x) {
  const Index left = norm.hidden - column;
  const auto weight = load_pack<kAligned, kPack<T>>(norm.weight + column, left);
  Pack<T, kPack<T>> out;
  LONGSPAN_UNROLL
  for (int k = 0; k < kPack<T>; ++k) {
    out.values[k] =
        round_to<T>(normalised<Compute<T>>(load(x.values[k]), rstd, load(weight.values[k])));
  }
  store_pack<kAligned>(norm.out.at(row, column), out, left);
}

/// Reads the packs of a row that stay in registers, all on their way at once.
template <bool kAligned, typename T>
__device__ void hold_row(const NormRows<T>& norm, const Rows<const T>& from, Index row,
                         Index hidden, Pack<T, kPack<T>> (&held)[kHeldForward]) {
  LONGSPAN_UNROLL
  for (int i = 0; i < kHeldForward; ++i) {
    const Index column = (threadIdx.x + i * static_cast<Index>(blockDim.x)) * kPack<T>;
    if (column < hidden) held[i] = load_columns<kAligned>(norm, from, row, column);
  }
}

template <typename T>
__device__ Compute<T> squares_of(const Pack<T, kPack<T>>& pack) {
  Compute<T> sum = 0;
  LONGSPAN_UNROLL
  for (int k = 0; k < kPack<T>; ++k) sum += load(pack.values[k]) * load(pack.values[k]);
  return sum;
}

template <typename T, bool kAligned, Mode kMode>
__global__ void __launch_bounds__(kMostThreadsForward)
    normalise_rows(NormRows<T> norm, Compute<T> epsilon) {
  using Real = Compute<T>;
  const Index row = static_cast<Index>(blockIdx.x) * blockDim.y + threadIdx.y;
  const Index hidden = row < norm.rows ? norm.hidden : 0;  // threads without a row stay for the sum
  const Index first = static_cast<Index>(threadIdx.x) * kPack<T>;
  const Index step = static_cast<Index>(blockDim.x) * kPack<T>;
  const Rows<const T> x{norm.x.data, norm.x.stride};
  Pack<T, kPack<T>> held[kHeldForward] = {};
  hold_row<kAligned>(norm, kMode == Mode::kAdd ? norm.a : x, row, hidden, held);
  if constexpr (kMode == Mode::kAdd) {
    Pack<T, kPack<T>> others[kHeldForward] = {};
    hold_row<kAligned>(norm, norm.b, row, hidden, others);
    LONGSPAN_UNROLL
    for (int i = 0; i < kHeldForward; ++i) {
      const Index column = first + i * step;
      if (column < hidden) {
        held[i] = add_packs<kAligned>(norm, row, column, held[i], others[i]);
      }
    }
  }
  Real rstd = 0;
  if constexpr (kMode == Mode::kAgain) {
    if (hidden > 0) rstd = norm.rstd[row];
  } else {
    Real squares = 0;
    LONGSPAN_UNROLL
    for (int i = 0; i < kHeldForward; ++i) squares += squares_of<T>(held[i]);
    for (Index column = first + kHeldForward * step; column < hidden; column += step) {
      if constexpr (kMode == Mode::kAdd) {
        squares += squares_of<T>(add_packs<kAligned>(
            norm, row, column, load_columns<kAligned>(norm, norm.a, row, column),
            load_columns<kAligned>(norm, norm.b, row, column)));
      } else {
        squares += squares_of<T>(load_columns<kAligned>(norm, x, row, column));
      }
    }
    squares = row_sum(squares, dynamic_shared_memory<Real>());
    rstd = Real(1) / std::sqrt(squares / static_cast<Real>(norm.hidden) + epsilon);
    if (hidden > 0 && threadIdx.x == 0) norm.rstd[row] = rstd;
  }
  LONGSPAN_UNROLL
  for (int i = 0; i < kHeldForward; ++i) {
    const Index column = first + i * step;
    if (column < hidden) normalise_pack<kAligned>(norm, row, column, rstd, held[i]);
  }
  for (Index column = first + kHeldForward * step; column < hidden; column += step) {
    normalise_pack<kAligned>(norm, row, column, rstd, load_columns<kAligned>(norm, x, row, column));
  }
}

/// a and b are undefined but of kAdd.
template <Mode kMode>
void normalise(const Queue& queue, const Tensor& out, const Tensor& rstd, const Tensor& x,
               const Tensor& a, const Tensor& b, const Tensor& weight, float epsilon) {
  if (x.elements() == 0) return;
  dispatch_float("rms_norm", "x", x, [&]<typename T>() {
    using Real = Compute<T>;
    const Index threads = threads_of_row<T>(x.size(1), kHeldForward, kMostThreadsForward);
    const Index rows = std::max<Index>(1, kUsualThreads / threads);
    const dim3 block(static_cast<unsigned>(threads), static_cast<unsigned>(rows));
    const auto grid = static_cast<unsigned>(divide_up(x.size(0), rows));
    const std::size_t shared = static_cast<std::size_t>(threads * rows / kLanes) * sizeof(Real);
    NormRows<T> norm{};
    norm.out = {out.data<T>(), out.row_stride()};
    norm.rstd = rstd.data<Real>();
    norm.x = {x.data<T>(), x.row_stride()};
    if constexpr (kMode == Mode::kAdd) {
      norm.a = {a.data<T>(), a.row_stride()};
      norm.b = {b.data<T>(), b.row_stride()};
    }
    norm.weight = weight.data<T>();
    norm.rows = x.size(0);
    norm.hidden = x.size(1);
    const bool parts_aligned = kMode != Mode::kAdd || (packs_aligned(a) && packs_aligned(b));
    const bool aligned =
        packs_aligned(out) && packs_aligned(x) && parts_aligned && vector_aligned(weight);
    with_alignment(aligned, [&]<bool kAligned>() {
      LONGSPAN_LAUNCH((normalise_rows<T, kAligned, kMode>), grid, block, shared, queue.stream, norm,
                      static_cast<Real>(epsilon));
    });
  });
}

// --- backward -----------------------------------------------------------------------------------

template <typename T>
struct NormGradient {
  Rows<T> dx;
  Rows<const T> dy;
  Rows<const T> residual;  // its data may be null
  Rows<const T> x;
  const T* weight;
  const Compute<T>* rstd;
  Compute<T>* shares;
  NormShares layout;
  Index rows;
  Index hidden;
  bool shares_in_shared_memory;
};

template <typename T>
struct GradientPacks {
  Pack<T, kPack<T>> dy;
  Pack<T, kPack<T>> x;
  Pack<T, kPack<T>> residual;
};

template <bool kAligned, typename T>
__device__ GradientPacks<T> load_gradient(const NormGradient<T>& norm, Index row, Index column) {
  constexpr int kCount = kPack<T>;
  const Index left = norm.hidden - column;
  GradientPacks<T> packs = {};
  packs.dy = load_pack<kAligned, kCount>(norm.dy.at(row, column), left);
  packs.x = load_pack<kAligned, kCount>(norm.x.at(row, column), left);
  if (norm.residual.data != nullptr) {
    packs.residual = load_pack<kAligned, kCount>(norm.residual.at(row, column), left);
  }
  return packs;
}

template <bool kAligned, typename T>
__device__ Compute<T> product_of(const NormGradient<T>& norm, Index column,
                                 const GradientPacks<T>& packs) {
  const auto weight = load_pack<kAligned, kPack<T>>(norm.weight + column, norm.hidden - column);
  Compute<T> sum = 0;
  LONGSPAN_UNROLL
  for (int k = 0; k < kPack<T>; ++k) {
    sum += norm_product<Compute<T>>(load(packs.dy.values[k]), load(weight.values[k]),
                                    load(packs.x.values[k]));
  }
  return sum;
}

/// Writes dx and adds to the block's share, in which element k of all packs lies together: so
/// threads side by side touch neighbours.
template <bool kAligned, typename T>
__device__ void finish_pack(const NormGradient<T>& norm, Index row, Index column, Compute<T> rstd,
                            Compute<T> slope, const GradientPacks<T>& packs, Compute<T>* share) {
  using Real = Compute<T>;
  const Index left = norm.hidden - column;
  const Index all_packs = divide_up(norm.hidden, kPack<T>);
  const auto weight = load_pack<kAligned, kPack<T>>(norm.weight + column, left);
  Pack<T, kPack<T>> dx;
  LONGSPAN_UNROLL
  for (int k = 0; k < kPack<T>; ++k) {
    const Real dy = load(packs.dy.values[k]);
    const Real x = load(packs.x.values[k]);
    share[k * all_packs + column / kPack<T>] += norm_weight_gradient(dy, x, rstd);
    const Real through = norm_gradient<Real>(dy, load(weight.values[k]), x, rstd, slope);
    dx.values[k] = round_to<T>(load(packs.residual.values[k]) + through);
  }
  store_pack<kAligned>(norm.dx.at(row, column), dx, left);
}

template <typename T, bool kAligned>
__device__ void backward_row(const NormGradient<T>& norm, Index row, Compute<T>* partial,
                             Compute<T>* share) {
  using Real = Compute<T>;
  const Index first = static_cast<Index>(threadIdx.x) * kPack<T>;
  const Index step = static_cast<Index>(blockDim.x) * kPack<T>;
  GradientPacks<T> held[kHeldBackward] = {};
  LONGSPAN_UNROLL
  for (int i = 0; i < kHeldBackward; ++i) {
    const Index column = first + i * step;
    if (column < norm.hidden) held[i] = load_gradient<kAligned>(norm, row, column);
  }
  const Real rstd = norm.rstd[row];
  Real product = 0;
  LONGSPAN_UNROLL
  for (int i = 0; i < kHeldBackward; ++i) {
    const Index column = first + i * step;
    if (column < norm.hidden) product += product_of<kAligned>(norm, column, held[i]);
  }
  for (Index column = first + kHeldBackward * step; column < norm.hidden; column += step) {
    product += product_of<kAligned>(norm, column, load_gradient<kAligned>(norm, row, column));
  }
  const Real slope = norm_slope(row_sum(product, partial), static_cast<Real>(norm.hidden), rstd);
  LONGSPAN_UNROLL
  for (int i = 0; i < kHeldBackward; ++i) {
    const Index column = first + i * step;
    if (column < norm.hidden) {
      finish_pack<kAligned>(norm, row, column, rstd, slope, held[i], share);
    }
  }
  for (Index column = first + kHeldBackward * step; column < norm.hidden; column += step) {
    finish_pack<kAligned>(norm, row, column, rstd, slope,
                          load_gradient<kAligned>(norm, row, column), share);
  }
}

/// One block of rows. Its share lies in shared memory when it fits, else in its place in scratch;
/// each element is only ever touched by one thread.
template <typename T, bool kAligned>
__global__ void __launch_bounds__(kMostThreadsBackward) backward_rows(NormGradient<T> norm) {
  using Real = Compute<T>;
  const Index warps = blockDim.x / kLanes;
  Real* partial = dynamic_shared_memory<Real>();  // two, so that one barrier a row is enough
  Real* result = norm.shares + blockIdx.x * norm.layout.columns;
  Real* share = norm.shares_in_shared_memory ? partial + 2 * warps : result;
  const Index all_packs = divide_up(norm.hidden, kPack<T>);
  for (Index pack = threadIdx.x; pack < all_packs; pack += blockDim.x) {
    for (int k = 0; k < kPack<T>; ++k) share[k * all_packs + pack] = 0;
  }
  const Index begin = blockIdx.x * norm.layout.rows_each;
  const Index end = std::min(norm.rows, begin + norm.layout.rows_each);
  for (Index row = begin; row < end; ++row) {
    backward_row<T, kAligned>(norm, row, partial + (row - begin) % 2 * warps, share);
  }
  if (!norm.shares_in_shared_memory) return;
  for (Index pack = threadIdx.x; pack < all_packs; pack += blockDim.x) {
    for (int k = 0; k < kPack<T>; ++k) {
      result[k * all_packs + pack] = share[k * all_packs + pack];
    }
  }
}

/// dweight += all shares: of blockDim.y threads each adds every blockDim.y-th, then one adds up
/// theirs.
template <typename Real>
__global__ void __launch_bounds__(kLanes* kLanes)
    add_shares(Real* dweight, const Real* shares, NormShares layout, Index hidden, int pack) {
  Real* sums = dynamic_shared_memory<Real>();  // [blockDim.y, kLanes]
  const Index all_packs = divide_up(hidden, pack);
  const Index column = static_cast<Index>(blockIdx.x) * kLanes + threadIdx.x;
  Real sum = 0;
  if (column < all_packs * pack) {
    LONGSPAN_UNROLL_BY(8)
    for (Index block = threadIdx.y; block < layout.blocks; block += blockDim.y) {
      sum += shares[block * layout.columns + column];
    }
  }
  sums[threadIdx.y * kLanes + threadIdx.x] = sum;
  __syncthreads();
  const Index h = column % all_packs * pack + column / all_packs;
  if (threadIdx.y > 0 || column >= all_packs * pack || h >= hidden) return;
  Real total = 0;
  for (unsigned i = 0; i < blockDim.y; ++i) total += sums[i * kLanes + threadIdx.x];
  dweight[h] += total;
}

template <typename T>
void backward(const Queue& queue, const Tensor& dx, const Tensor& dweight, const Tensor& dy,
              const Tensor& residual, const Tensor& rstd, const Tensor& x, const Tensor& weight) {
  using Real = Compute<T>;
  const Index hidden = x.size(1);
  const NormShares layout = rms_norm_backward_shares(x.size(0), hidden);
  const Tensor scratch =
      queue.backend->allocate({layout.elements()}, dweight.dtype(), MemoryTag::kWorkspace);
  const Index threads = threads_of_row<T>(hidden, kHeldBackward, kMostThreadsBackward);
  constexpr auto kReal = static_cast<Index>(sizeof(Real));
  const Index sum_bytes = 2 * threads / kLanes * kReal;
  const Index share_bytes = layout.columns * kReal;
  const bool fits = sum_bytes + share_bytes <= kSharedBytes;
  NormGradient<T> norm{};
  norm.dx = {dx.data<T>(), dx.row_stride()};
  norm.dy = {dy.data<T>(), dy.row_stride()};
  if (residual.defined()) norm.residual = {residual.data<T>(), residual.row_stride()};
  norm.x = {x.data<T>(), x.row_stride()};
  norm.weight = weight.data<T>();
  norm.rstd = rstd.data<Real>();
  norm.shares = scratch.data<Real>();
  norm.layout = layout;
  norm.rows = x.size(0);
  norm.hidden = hidden;
  norm.shares_in_shared_memory = fits;
  const bool aligned = packs_aligned(dx) && packs_aligned(dy) && packs_aligned(x) &&
                       (!residual.defined() || packs_aligned(residual)) && vector_aligned(weight);
  with_alignment(aligned, [&]<bool kAligned>() {
    LONGSPAN_LAUNCH((backward_rows<T, kAligned>), static_cast<unsigned>(layout.blocks),
                    static_cast<unsigned>(threads),
                    static_cast<std::size_t>(sum_bytes + (fits ? share_bytes : 0)), queue.stream,
                    norm);
  });
  const Index down = std::min<Index>(kLanes, power_of_two(layout.blocks));
  LONGSPAN_LAUNCH(add_shares<Real>, static_cast<unsigned>(divide_up(layout.columns, kLanes)),
                  dim3(kLanes, static_cast<unsigned>(down)),
                  static_cast<std::size_t>(kLanes * down) * sizeof(Real), queue.stream,
                  dweight.data<Real>(), scratch.data<Real>(), layout, hidden, kPack<T>);
}

}  // namespace

void rms_norm_forward(const Queue& queue, const Tensor& out, const Tensor& rstd, const Tensor& x,
                      const Tensor& weight, float epsilon) {
  check_rms_norm("rms_norm_forward", out, rstd, x, weight);
  normalise<Mode::kForward>(queue, out, rstd, x, Tensor(), Tensor(), weight, epsilon);
}

void add_rms_norm_forward(const Queue& queue, const Tensor& out, const Tensor& rstd,
                          const Tensor& sum, const Tensor& a, const Tensor& b, const Tensor& weight,
                          float epsilon) {
  check_add_rms_norm(out, rstd, sum, a, b, weight);
  normalise<Mode::kAdd>(queue, out, rstd, sum, a, b, weight, epsilon);
}

void rms_norm_again(const Queue& queue, const Tensor& out, const Tensor& rstd, const Tensor& x,
                    const Tensor& weight) {
  check_rms_norm("rms_norm_again", out, rstd, x, weight);
  normalise<Mode::kAgain>(queue, out, rstd, x, Tensor(), Tensor(), weight, 0.0F);
}

void rms_norm_backward(const Queue& queue, const Tensor& dx, const Tensor& dweight,
                       const Tensor& dy, const Tensor& residual, const Tensor& rstd,
                       const Tensor& x, const Tensor& weight) {
  check_rms_norm_backward(dx, dweight, dy, residual, rstd, x, weight);
  if (x.elements() == 0) return;
  dispatch_float("rms_norm_backward", "x", x, [&]<typename T>() {
    backward<T>(queue, dx, dweight, dy, residual, rstd, x, weight);
  });
}

}  // namespace longspan::backend::cuda
