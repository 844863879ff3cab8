#pragma once

#include "backend/cuda/kernels/norm_rows.h"
#include "backend/cuda/kernels/row_shares.h"

// The backward of RMS norm and layer norm (kCentred).
namespace longspan::backend::cuda {

inline constexpr int kHeldBackward = 2;  // of each of three inputs: more would not fit in registers
inline constexpr Index kMostThreadsBackward = 512;
inline constexpr Index kSharedBytes = Index{48} << 10;

template <typename T>
struct NormGradient {
  Rows<T> dx;
  Rows<const T> dy;
  Rows<const T> residual;  // its data may be null
  Rows<const T> x;
  const T* weight;
  const Compute<T>* mean;  // of layer norm
  const Compute<T>* rstd;
  Compute<T>* shares;  // of dweight and, of layer norm, dbias; null: nobody wants them
  RowShares layout;
  Compute<T> weight_offset;
  Index rows;
  Index heads;  // of a row, each normalised for itself; 1: the whole row is
  Index hidden;
  bool shares_in_shared_memory;

  /// From one head of every row to the next one.
  __device__ void next_head() {
    dx.data += hidden;
    dy.data += hidden;
    if (residual.data != nullptr) residual.data += hidden;
    x.data += hidden;
    if (mean != nullptr) ++mean;
    ++rstd;
  }
};

template <typename T>
struct GradientPacks {
  Pack<T, kPack<T>> dy;
  Pack<T, kPack<T>> x;
  Pack<T, kPack<T>> residual;
};

/// What is known of a row once its sums are.
template <typename Real>
struct RowGradient {
  Real mean;
  Real rstd;
  Real slope;
  Real offset;
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

/// Adds a pack's part to the sums of which slope and offset are made. Behind the end of a row dy is
/// zero.
template <bool kAligned, bool kCentred, typename T>
__device__ void sum_pack(const NormGradient<T>& norm, Index column, const GradientPacks<T>& packs,
                         Compute<T> mean, Compute<T>& product, Compute<T>& gradients) {
  const auto weight = load_pack<kAligned, kPack<T>>(norm.weight + column, norm.hidden - column);
  LONGSPAN_UNROLL
  for (int k = 0; k < kPack<T>; ++k) {
    const Compute<T> dy = load(packs.dy.values[k]);
    const Compute<T> scale = norm.weight_offset + load(weight.values[k]);
    product += norm_product(dy, scale, centred<kCentred>(load(packs.x.values[k]), mean));
    if constexpr (kCentred) gradients += dy * scale;
  }
}

/// Writes dx and adds to the block's shares, unless they are null.
template <bool kAligned, bool kCentred, typename T>
__device__ void finish_pack(const NormGradient<T>& norm, Index row, Index column,
                            const RowGradient<Compute<T>>& of, const GradientPacks<T>& packs,
                            Compute<T>* shares) {
  using Real = Compute<T>;
  const Index left = norm.hidden - column;
  const Index all_packs = divide_up(norm.hidden, kPack<T>);
  const auto weight = load_pack<kAligned, kPack<T>>(norm.weight + column, left);
  Real* share = shares == nullptr ? nullptr : shares + column / kPack<T>;
  Pack<T, kPack<T>> dx;
  LONGSPAN_UNROLL
  for (int k = 0; k < kPack<T>; ++k) {
    const Real dy = load(packs.dy.values[k]);
    const Real x = centred<kCentred>(load(packs.x.values[k]), of.mean);
    if (share != nullptr) {
      share[k * all_packs] += norm_weight_gradient(dy, x, of.rstd);
      if constexpr (kCentred) share[norm.layout.columns + k * all_packs] += dy;
    }
    const Real through = norm_gradient<Real>(dy, norm.weight_offset + load(weight.values[k]), x,
                                             of.rstd, of.slope, of.offset);
    dx.values[k] = round_to<T>(load(packs.residual.values[k]) + through);
  }
  store_pack<kAligned>(norm.dx.at(row, column), dx, left);
}

/// `partial`: two of them, as row_sum wants them.
template <typename T, bool kAligned, bool kCentred>
__device__ void backward_row(const NormGradient<T>& norm, Index row, Compute<T>* partial,
                             Compute<T>* other, Compute<T>* shares) {
  using Real = Compute<T>;
  constexpr int kCount = kPack<T>;
  const auto read = [&](Index column) { return load_gradient<kAligned>(norm, row, column); };
  GradientPacks<T> held[kHeldBackward] = {};
  hold_row<kCount>(norm.hidden, held, read);
  RowGradient<Real> of{};
  of.rstd = norm.rstd[row * norm.heads];
  if constexpr (kCentred) of.mean = norm.mean[row * norm.heads];
  Real product = 0;
  Real gradients = 0;
  visit_row<kCount>(norm.hidden, held, read, [&](Index column, const GradientPacks<T>& packs) {
    sum_pack<kAligned, kCentred>(norm, column, packs, of.mean, product, gradients);
  });
  const auto count = static_cast<Real>(norm.hidden);
  of.slope = norm_slope(row_sum(product, partial), count, of.rstd);
  if constexpr (kCentred) of.offset = row_sum(gradients, other) / count;
  visit_row<kCount>(norm.hidden, held, read, [&](Index column, const GradientPacks<T>& packs) {
    finish_pack<kAligned, kCentred>(norm, row, column, of, packs, shares);
  });
}

/// One block of rows. Its shares, if they are wanted, lie in shared memory when they fit, else in
/// their place in scratch.
template <typename T, bool kAligned, bool kCentred>
__global__ void __launch_bounds__(kMostThreadsBackward) backward_rows(NormGradient<T> norm) {
  using Real = Compute<T>;
  const Index warps = blockDim.x / kLanes;
  // Two, so that one barrier a sum is enough: rows take turns where they have one sum.
  Real* partial = dynamic_shared_memory<Real>();
  Real* other = partial + warps;
  Real* result = norm.shares == nullptr ? nullptr : norm.shares + blockIdx.x * norm.layout.pitch();
  Real* shares = norm.shares_in_shared_memory ? other + warps : result;
  if (shares != nullptr) clear_shares<kPack<T>>(shares, norm.layout, norm.hidden);
  const Index begin = blockIdx.x * norm.layout.rows_each;
  const Index end = std::min(norm.rows, begin + norm.layout.rows_each);
  bool swap = false;
  for (Index head = 0; head < norm.heads; ++head) {
    for (Index row = begin; row < end; ++row) {
      backward_row<T, kAligned, kCentred>(norm, row, swap ? other : partial, swap ? partial : other,
                                          shares);
      swap = !kCentred && !swap;
    }
    norm.next_head();
  }
  if (norm.shares_in_shared_memory) {
    copy_shares<kPack<T>>(result, shares, norm.layout, norm.hidden);
  }
}

// --- on the host --------------------------------------------------------------------------------

template <bool kCentred, typename T>
void backward(const Queue& queue, const NormGradientTensors& tensors) {
  using Real = Compute<T>;
  const Index hidden = width_of(tensors.x);
  NormGradient<T> norm{};
  norm.layout = row_shares(tensors.x.size(0), hidden, /*vectors=*/kCentred ? 2 : 1);
  const bool trains = tensors.dweight.defined();
  Tensor scratch;
  if (trains) {
    scratch = queue.backend->allocate(Shape{norm.layout.elements()}, tensors.dweight.dtype(),
                                      MemoryTag::kWorkspace);
  }
  const Index threads = threads_of_row<T>(hidden, kHeldBackward, kMostThreadsBackward);
  constexpr auto kReal = static_cast<Index>(sizeof(Real));
  const Index sum_bytes = 2 * threads / kLanes * kReal;
  const Index share_bytes = norm.layout.pitch() * kReal;
  const bool fits = trains && sum_bytes + share_bytes <= kSharedBytes;
  norm.dx = rows_of<T>(tensors.dx);
  norm.dy = rows_of<const T>(tensors.dy);
  norm.residual = rows_of<const T>(tensors.residual);
  norm.x = rows_of<const T>(tensors.x);
  norm.weight = vector_of<T>(tensors.weight);
  norm.mean = vector_of<Real>(tensors.mean);
  norm.rstd = vector_of<Real>(tensors.rstd);
  norm.shares = trains ? scratch.data<Real>() : nullptr;
  norm.weight_offset = static_cast<Real>(tensors.options.weight_offset);
  norm.rows = tensors.x.size(0);
  norm.heads = heads_of(tensors.x);
  norm.hidden = hidden;
  norm.shares_in_shared_memory = fits;
  const bool aligned = rows_aligned({tensors.dx, tensors.dy, tensors.residual, tensors.x}) &&
                       heads_aligned(tensors.x) && vector_aligned(tensors.weight);
  with_alignment(aligned, [&]<bool kAligned>() {
    LONGSPAN_LAUNCH((backward_rows<T, kAligned, kCentred>),
                    static_cast<unsigned>(norm.layout.blocks), static_cast<unsigned>(threads),
                    static_cast<std::size_t>(sum_bytes + (fits ? share_bytes : 0)), queue.stream,
                    norm);
  });
  if (!trains) return;
  launch_add_shares(queue, vector_of<Real>(tensors.dweight), vector_of<Real>(tensors.dbias),
                    norm.shares, norm.layout, hidden, kPack<T>);
}

template <bool kCentred>
void backward(const char* operation, const Queue& queue, const NormGradientTensors& tensors) {
  if (tensors.x.elements() == 0) return;
  dispatch_float(operation, "x", tensors.x,
                 [&]<typename T>() { backward<kCentred, T>(queue, tensors); });
}

}  // namespace longspan::backend::cuda
