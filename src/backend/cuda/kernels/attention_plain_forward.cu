#include <cmath>
#include <limits>

#include "backend/cuda/kernels/attention_plain.h"

namespace longspan::backend::cuda {
namespace plain {
namespace {

/// Rows and columns of a tile, so that a thread's sums stay in registers and the block's operands
/// within 48 KiB.
template <typename Real, int kSlices>
struct ForwardTile {
  static constexpr bool kWide = sizeof(Real) == 8;
  static constexpr int kQueries = kSlices == 16 ? 16 : (kSlices == 8 || kWide) ? 32 : 64;
  static constexpr int kKeys = kWide ? 32 : 64;
};

template <typename T>
struct Forward {
  Heads<T> out;
  Compute<T>* lse;
  Heads<const T> q, k, v;
  Documents documents;
  Index lse_stride;
  int queries;
  int heads, group;  ///< query heads, and of them those that read one KV head
  int head_dim;
  Compute<T> scale;
};

/// A row's softmax as far as it has been read: the same in the 16 threads that share the row, but
/// for the sum, of which each has a part.
template <typename Real>
struct Running {
  Real highest = -std::numeric_limits<Real>::infinity();
  Real sum = 0;
};

/// The largest value of the 16 threads of a row; NaN is passed over.
template <typename Real>
__device__ Real largest_of_row(Real value) {
  LONGSPAN_UNROLL
  for (int step = kSide / 2; step > 0; step /= 2) {
    value = std::fmax(value, __shfl_xor_sync(kAllLanes, value, step));
  }
  return value;
}
template <typename Real>
__device__ Real sum_of_row(Real value) {
  LONGSPAN_UNROLL
  for (int step = kSide / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, step);
  }
  return value;
}

/// Turns a row's scores, -infinity where the key is not seen, into exponentials relative to the new
/// maximum; returns what earlier sums of the row are multiplied by.
template <typename Real, int kCount>
__device__ Real soften_row(Real (&scores)[kCount], Running<Real>& running) {
  constexpr Real kNone = -std::numeric_limits<Real>::infinity();
  Real highest = kNone;
  LONGSPAN_UNROLL
  for (int j = 0; j < kCount; ++j) highest = std::fmax(highest, scores[j]);
  highest = std::fmax(running.highest, largest_of_row(highest));
  // With no key so far any number serves; -infinity would make 0 of nothing NaN.
  const Real shift = highest == kNone ? Real(0) : highest;
  const Real correction = std::exp(running.highest - shift);
  Real sum = 0;
  LONGSPAN_UNROLL
  for (int j = 0; j < kCount; ++j) {
    scores[j] = std::exp(scores[j] - shift);
    sum += scores[j];
  }
  running.sum = running.sum * correction + sum;
  running.highest = highest;
  return correction;
}

template <typename T, int kSlices>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce<Compute<T>>)
    forward_kernel(Forward<T> with) {
  using Real = Compute<T>;
  using Tile = ForwardTile<Real, kSlices>;
  constexpr int kQueries = Tile::kQueries;
  constexpr int kKeys = Tile::kKeys;
  constexpr int kScorePitch = kKeys + 1;
  constexpr int kRows = kQueries / kSide;
  constexpr int kColumns = kKeys / kSide;
  __shared__ Real query_slice[kQueries * kPitch];
  __shared__ Real key_slice[kKeys * kPitch];
  __shared__ Real probabilities[kQueries * kScorePitch];

  const int head = static_cast<int>(blockIdx.x % with.heads);
  // The last queries of a document see most keys: their tiles begin first.
  const int tiles = static_cast<int>(gridDim.x / with.heads);
  const int first = (tiles - 1 - static_cast<int>(blockIdx.x / with.heads)) * kQueries;
  const int end = first + kQueries < with.queries ? first + kQueries : with.queries;
  const int head_dim = with.head_dim;
  const Head<const T> q = with.q.head(head, head_dim);
  const Head<const T> k = with.k.head(head / with.group, head_dim);
  const Head<const T> v = with.v.head(head / with.group, head_dim);
  Range seen[kRows];
  LONGSPAN_UNROLL
  for (int i = 0; i < kRows; ++i) {
    const int query = first + down() + i * kSide;
    seen[i] = query < end ? with.documents.keys_of(query) : Range{0, 0};
  }
  const Range all{with.documents.keys_of(first).begin, with.documents.keys_of(end - 1).end};

  Accumulator<Real, kQueries, kSlices> out;
  Running<Real> running[kRows];
  for (int key = all.begin; key < all.end; key += kKeys) {
    Real scores[kRows][kColumns];
    set_zero(scores);
    for (int column = 0; column < head_dim; column += kSlice) {
      __syncthreads();  // the slices before have been used
      load_slice<kQueries>(query_slice, q, first, end, column, head_dim);
      load_slice<kKeys>(key_slice, k, key, all.end, column, head_dim);
      __syncthreads();
      multiply<kSlice, SliceRows, SliceRows>(scores, query_slice, key_slice);
    }
    LONGSPAN_UNROLL
    for (int i = 0; i < kRows; ++i) {
      LONGSPAN_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        const int at = key + across() + j * kSide;
        const bool sees = at >= seen[i].begin && at < seen[i].end;
        scores[i][j] = sees ? scores[i][j] * with.scale : -std::numeric_limits<Real>::infinity();
      }
      const Real correction = soften_row(scores[i], running[i]);
      Real* row = probabilities + (down() + i * kSide) * kScorePitch;
      LONGSPAN_UNROLL
      for (int j = 0; j < kColumns; ++j) row[across() + j * kSide] = scores[i][j];
      LONGSPAN_UNROLL
      for (int s = 0; s < kSlices; ++s) {
        LONGSPAN_UNROLL
        for (int j = 0; j < kSliceColumns; ++j) out.sums[s][i][j] *= correction;
      }
    }
    LONGSPAN_UNROLL
    for (int s = 0; s < kSlices; ++s) {
      if (s * kSlice >= head_dim) continue;  // the same for all threads
      __syncthreads();
      load_slice<kKeys>(key_slice, v, key, all.end, s * kSlice, head_dim);
      __syncthreads();
      multiply<kKeys, Strides<kScorePitch, 1>, SliceColumns>(out.sums[s], probabilities, key_slice);
    }
  }

  LONGSPAN_UNROLL
  for (int i = 0; i < kRows; ++i) running[i].sum = sum_of_row(running[i].sum);
  out.store(with.out.head(head, head_dim), first, end, head_dim,
            [&](int i) { return running[i].sum == Real(0) ? Real(0) : Real(1) / running[i].sum; });
  LONGSPAN_UNROLL
  for (int i = 0; i < kRows; ++i) {
    const int query = first + down() + i * kSide;
    if (across() != 0 || query >= end) continue;
    with.lse[head * with.lse_stride + query] = running[i].highest + std::log(running[i].sum);
  }
}

}  // namespace
}  // namespace plain

void attention_plain_forward(const Queue& queue, const Tensor& out, const Tensor& lse,
                             const Tensor& q, const Tensor& k, const Tensor& v,
                             const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                             const AttentionOptions& options) {
  check_attention(out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k);
  plain::check_head_dim("attention_forward", q);
  if (q.elements() == 0) return;
  const PlainAttentionScratch places = PlainAttentionScratch::forward(q, k);
  const Tensor scratch = queue.backend->allocate({static_cast<Index>(places.bytes)},
                                                 base::DType::kUInt8, MemoryTag::kWorkspace);
  const plain::Documents documents = plain::upload_documents(
      queue, cu_seqlens_q, cu_seqlens_k, options.causal,
      reinterpret_cast<std::int32_t*>(scratch.data<std::uint8_t>() + places.boundaries));
  dispatch_float("attention_forward", "q", q, [&]<typename T>() {
    const plain::Forward<T> with{plain::Heads<T>(out),
                                 lse.data<Compute<T>>(),
                                 plain::Heads<const T>(q),
                                 plain::Heads<const T>(k),
                                 plain::Heads<const T>(v),
                                 documents,
                                 lse.row_stride(),
                                 static_cast<int>(q.size(0)),
                                 static_cast<int>(q.size(1)),
                                 static_cast<int>(q.size(1) / k.size(1)),
                                 static_cast<int>(q.size(2)),
                                 static_cast<Compute<T>>(options.scale)};
    plain::dispatch_slices(q.size(2), [&]<int kSlices>() {
      constexpr int kQueries = plain::ForwardTile<Compute<T>, kSlices>::kQueries;
      const Index blocks = divide_up(q.size(0), kQueries) * q.size(1);
      LONGSPAN_LAUNCH((plain::forward_kernel<T, kSlices>), static_cast<unsigned>(blocks),
                      plain::kThreads, 0, queue.stream, with);
    });
  });
}

}  // namespace longspan::backend::cuda
