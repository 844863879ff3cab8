#pragma once

#include <cmath>
#include <utility>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/error.h"
#include "backend/cuda/kernels/device.h"
#include "backend/cuda/plain_attention.h"
#include "backend/cuda_scratch.h"
#include "backend/elementwise/soft_cap.h"
#include "longspan/backend/cuda.h"

// What the forward and the backward of plain attention share. A block works on a tile of rows
// against tiles of columns: rows are queries or, for the gradients of keys and values, keys;
// columns are the other side. Tiles are cut from the packed stream wherever documents begin, so
// that their number depends on the number of tokens alone; each row has the range of columns that
// it sees. Products go through shared memory in slices of head_dim, so that any head_dim fits.
namespace longspan::backend::cuda::plain {

/// A block is a square of threads; thread (down, across) has rows down + 16 i, columns across + 16
/// j.
inline constexpr int kSide = 16;
inline constexpr int kThreads = kSide * kSide;
/// Elements of head_dim in one slice, and from one token of a slice to the next: odd, so that the
/// tokens lie in different banks.
inline constexpr int kSlice = 32;
inline constexpr int kPitch = kSlice + 1;
inline constexpr int kSliceColumns = kSlice / kSide;

/// Blocks that share a multiprocessor, which bounds the registers of a thread: 128, or 255.
template <typename Real>
inline constexpr int kBlocksAtOnce = sizeof(Real) == 8 ? 1 : 2;

__device__ inline int down() { return static_cast<int>(threadIdx.x) / kSide; }
__device__ inline int across() { return static_cast<int>(threadIdx.x) % kSide; }

struct Range {
  int begin, end;
};

/// What of a product q . k the softmax sees.
template <typename Real>
struct Score {
  Real value;
  Real slope;  ///< its derivative by the product
};

template <typename Real>
struct Scaling {
  Real scale;
  Real soft_cap;  ///< 0: none

  explicit Scaling(const AttentionOptions& options)
      : scale(static_cast<Real>(options.scale)), soft_cap(static_cast<Real>(options.soft_cap)) {}

  __device__ Score<Real> operator()(Real product) const {
    if (soft_cap == Real(0)) return {product * scale, scale};
    const Real tangent = std::tanh(product * (scale / soft_cap));
    return {soft_cap * tangent, scale * soft_cap_slope(tangent)};
  }
};

/// Document i has queries [q[i], q[i + 1]) and keys [k[i], k[i + 1]); both in device memory.
struct Documents {
  const std::int32_t* q;
  const std::int32_t* k;
  int count;
  bool causal;
  int window;  ///< of AttentionOptions

  /// The document of a token: the last one that begins at it or before (empty ones end there too).
  __device__ int find(const std::int32_t* offsets, int token) const {
    int low = 0;
    int high = count - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (offsets[middle] <= token) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }
  /// The keys that a query sees. Beginnings and ends grow with the query.
  __device__ Range keys_of(int query) const {
    const int i = find(q, query);
    if (!causal) return {k[i], k[i + 1]};
    const int end = k[i + 1] - (q[i + 1] - query) + 1;  // queries stand at the end of the keys
    if (end <= k[i]) return {k[i], k[i]};
    return {window > 0 && end - k[i] > window ? end - window : k[i], end};
  }
  /// The queries that see a key. Beginnings and ends grow with the key.
  __device__ Range queries_of(int key) const {
    const int i = find(k, key);
    if (!causal) return {q[i], q[i + 1]};
    const int left = k[i + 1] - key;  // keys of the document from this one on
    const int begin = q[i + 1] - left > q[i] ? q[i + 1] - left : q[i];
    const int end = window > 0 && window < left ? q[i + 1] - left + window : q[i + 1];
    return {begin, end > begin ? end : begin};
  }
};

/// What each of the thread's rows sees, and what the first to the last row see together.
template <int kCount>
struct Seen {
  Range of[kCount];
  Range all;

  /// `range(token)` for rows [begin, end).
  template <typename RangeOf>
  __device__ Seen(int begin, int end, const RangeOf& range) {
    LONGSPAN_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const int row = begin + down() + i * kSide;
      of[i] = row < end ? range(row) : Range{0, 0};
    }
    all = {range(begin).begin, range(end - 1).end};
  }
  __device__ bool sees(int i, int column) const {
    return column >= of[i].begin && column < of[i].end;
  }
};

/// One head of a [tokens, heads, head_dim] tensor.
template <typename T>
struct Head {
  T* data;
  Index stride;

  __device__ T* at(Index token, int column) const { return data + token * stride + column; }
};

/// A [tokens, heads, head_dim] tensor.
template <typename T>
struct Heads {
  T* data;
  Index stride;

  explicit Heads(const Tensor& tensor)
      : data(tensor.data<std::remove_const_t<T>>()), stride(tensor.row_stride()) {}
  __device__ Head<T> head(int index, int head_dim) const {
    return {data + static_cast<Index>(index) * head_dim, stride};
  }
};

/// slice[i, :] = columns [column, column + kSlice) of token first + i, zeros from token `end` on
/// and beyond head_dim. A warp reads one token's slice at once.
template <int kTokens, typename T>
__device__ void load_slice(Compute<T>* slice, const Head<const T>& head, int first, int end,
                           int column, int head_dim) {
  LONGSPAN_UNROLL
  for (int step = 0; step < kTokens * kSlice; step += kThreads) {
    const int i = step + static_cast<int>(threadIdx.x);
    const int token = first + i / kSlice;
    const int c = i % kSlice;
    const bool inside = token < end && column + c < head_dim;
    slice[i / kSlice * kPitch + c] = inside ? load(*head.at(token, column + c)) : Compute<T>(0);
  }
}

/// Where an operand's element (row or column, depth) lies.
template <int kPerIndex, int kPerDepth>
struct Strides {
  static constexpr int kIndex = kPerIndex;
  static constexpr int kDepth = kPerDepth;
};

/// sums[i][j] += sum over k of a(row i, k) * b(column j, k), operands in shared memory.
template <int kDepth, typename A, typename B, typename Real, int kRows, int kColumns>
__device__ void multiply(Real (&sums)[kRows][kColumns], const Real* a, const Real* b) {
  a += down() * A::kIndex;
  b += across() * B::kIndex;
  LONGSPAN_UNROLL_BY(4)
  for (int k = 0; k < kDepth; ++k) {
    Real left[kRows];
    Real right[kColumns];
    LONGSPAN_UNROLL
    for (int i = 0; i < kRows; ++i) left[i] = a[i * kSide * A::kIndex + k * A::kDepth];
    LONGSPAN_UNROLL
    for (int j = 0; j < kColumns; ++j) right[j] = b[j * kSide * B::kIndex + k * B::kDepth];
    LONGSPAN_UNROLL
    for (int i = 0; i < kRows; ++i) {
      LONGSPAN_UNROLL
      for (int j = 0; j < kColumns; ++j) sums[i][j] += left[i] * right[j];
    }
  }
}

/// Both operands are slices, [tokens, head_dim]: the depth is head_dim.
using SliceRows = Strides<kPitch, 1>;
/// A slice of which the depth is tokens.
using SliceColumns = Strides<1, kPitch>;

template <typename Real, int kRows, int kColumns>
__device__ void set_zero(Real (&sums)[kRows][kColumns]) {
  LONGSPAN_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LONGSPAN_UNROLL
    for (int j = 0; j < kColumns; ++j) sums[i][j] = 0;
  }
}

/// A tile of results, slice after slice, of this thread.
template <typename Real, int kRows, int kSlices>
struct Accumulator {
  Real sums[kSlices][kRows / kSide][kSliceColumns];

  __device__ Accumulator() {
    LONGSPAN_UNROLL
    for (int s = 0; s < kSlices; ++s) set_zero(sums[s]);
  }

  __device__ void scale_row(int i, Real factor) {
    LONGSPAN_UNROLL
    for (int s = 0; s < kSlices; ++s) {
      LONGSPAN_UNROLL
      for (int j = 0; j < kSliceColumns; ++j) sums[s][i][j] *= factor;
    }
  }

  /// sums[i, :] += sum over tokens j of weights[i, j] * head[first + j, :], for kTokens tokens of
  /// which those from `end` on are none. weights and slice are shared memory, [kRows, kTokens + 1]
  /// and [kTokens, kPitch]; waits at barriers before it reads the one and writes the other.
  template <int kTokens, typename T>
  __device__ void add_products(const Real* weights, Real* slice, const Head<const T>& head,
                               int first, int end, int head_dim) {
    LONGSPAN_UNROLL
    for (int s = 0; s < kSlices; ++s) {
      if (s * kSlice >= head_dim) continue;  // the same for all threads
      __syncthreads();
      load_slice<kTokens>(slice, head, first, end, s * kSlice, head_dim);
      __syncthreads();
      multiply<kTokens, Strides<kTokens + 1, 1>, SliceColumns>(sums[s], weights, slice);
    }
  }

  /// Rows first, first + 1, ... below `end`; row i is multiplied by factor(i) first.
  template <typename T, typename Factor>
  __device__ void store(const Head<T>& head, int first, int end, int head_dim,
                        const Factor& factor) const {
    LONGSPAN_UNROLL
    for (int s = 0; s < kSlices; ++s) {
      LONGSPAN_UNROLL
      for (int i = 0; i < kRows / kSide; ++i) {
        LONGSPAN_UNROLL
        for (int j = 0; j < kSliceColumns; ++j) {
          const int token = first + down() + i * kSide;
          const int column = s * kSlice + across() + j * kSide;
          if (token >= end || column >= head_dim) continue;
          *head.at(token, column) = round_to<T>(sums[s][i][j] * factor(i));
        }
      }
    }
  }
};

/// Boundaries on the device, without documents that have neither queries nor keys: of those there
/// may be any number, of others at most one for each token.
inline Documents upload_documents(const Queue& queue, const CuSeqlens& cu_seqlens_q,
                                  const CuSeqlens& cu_seqlens_k, const AttentionOptions& options,
                                  std::int32_t* boundaries) {
  CuSeqlens q = {0};
  CuSeqlens k = {0};
  for (std::size_t i = 1; i < cu_seqlens_q.size(); ++i) {
    if (cu_seqlens_q[i] == q.back() && cu_seqlens_k[i] == k.back()) continue;
    q.push_back(cu_seqlens_q[i]);
    k.push_back(cu_seqlens_k[i]);
  }
  const auto places = static_cast<Index>(q.size());
  q.insert(q.end(), k.begin(), k.end());
  // Of pageable memory the call takes a copy before it returns: the vector need not outlive it.
  check(cudaMemcpyAsync(boundaries, q.data(), q.size() * sizeof(std::int32_t),
                        cudaMemcpyHostToDevice, queue.stream),
        "cudaMemcpyAsync of cu_seqlens");
  return {boundaries, boundaries + places, static_cast<int>(places - 1), options.causal,
          static_cast<int>(options.window)};
}

inline void check_head_dim(const char* operation, const Tensor& q) {
  if (q.size(2) < 1 || q.size(2) > kCudaMostHeadDim) {
    contract_broken(operation, "q", q, "a head_dim of 1 to " + std::to_string(kCudaMostHeadDim));
  }
}

/// Calls visit.template operator()<slices>() with the least number of slices that kernels are made
/// for.
template <typename Visit>
void dispatch_slices(Index head_dim, const Visit& visit) {
  if (head_dim <= 4 * kSlice) return visit.template operator()<4>();
  if (head_dim <= 8 * kSlice) return visit.template operator()<8>();
  visit.template operator()<16>();
}

}  // namespace longspan::backend::cuda::plain
