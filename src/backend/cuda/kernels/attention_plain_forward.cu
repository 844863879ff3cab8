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
  Scaling<Compute<T>> scaling;
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

/// A tile's memory that threads share.
template <typename Real, int kQueries, int kKeys>
struct SharedTile {
  Real query_slice[kQueries * kPitch];
  Real key_slice[kKeys * kPitch];
  Real probabilities[kQueries * (kKeys + 1)];
};

/// scores[i][j] = query i . key j.
template <typename T, int kQueries, int kKeys>
__device__ void query_times_key(Compute<T> (&scores)[kQueries / kSide][kKeys / kSide],
                                SharedTile<Compute<T>, kQueries, kKeys>& shared,
                                const Head<const T>& q, const Head<const T>& k, Range queries,
                                Range keys, int head_dim) {
  set_zero(scores);
  for (int column = 0; column < head_dim; column += kSlice) {
    __syncthreads();  // what was in the slices has been used
    load_slice<kQueries>(shared.query_slice, q, queries.begin, queries.end, column, head_dim);
    load_slice<kKeys>(shared.key_slice, k, keys.begin, keys.end, column, head_dim);
    __syncthreads();
    multiply<kSlice, SliceRows, SliceRows>(scores, shared.query_slice, shared.key_slice);
  }
}

/// Makes probabilities of the scores of keys from `key` on, relative to the rows' maxima so far;
/// earlier results are scaled to these.
template <int kRows, int kColumns, typename Real, typename Sums>
__device__ void soften_tile(Real (&scores)[kRows][kColumns], Running<Real> (&running)[kRows],
                            Sums& out, Real* probabilities, const Seen<kRows>& seen, int key,
                            const Scaling<Real>& scaling) {
  LONGSPAN_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LONGSPAN_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      const bool sees = seen.sees(i, key + across() + j * kSide);
      scores[i][j] = sees ? scaling(scores[i][j]).value : -std::numeric_limits<Real>::infinity();
    }
    out.scale_row(i, soften_row(scores[i], running[i]));
    Real* row = probabilities + (down() + i * kSide) * (kColumns * kSide + 1);
    LONGSPAN_UNROLL
    for (int j = 0; j < kColumns; ++j) row[across() + j * kSide] = scores[i][j];
  }
}

template <typename T, int kSlices>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce<Compute<T>>)
    forward_kernel(Forward<T> with) {
  using Real = Compute<T>;
  constexpr int kQueries = ForwardTile<Real, kSlices>::kQueries;
  constexpr int kKeys = ForwardTile<Real, kSlices>::kKeys;
  constexpr int kRows = kQueries / kSide;
  __shared__ SharedTile<Real, kQueries, kKeys> shared;

  const int head = static_cast<int>(blockIdx.x % with.heads);
  // The last queries of a document see most keys: their tiles begin first.
  const int tiles = static_cast<int>(gridDim.x / with.heads);
  const int begin = (tiles - 1 - static_cast<int>(blockIdx.x / with.heads)) * kQueries;
  const Range queries{begin, begin + kQueries < with.queries ? begin + kQueries : with.queries};
  const int head_dim = with.head_dim;
  const Head<const T> q = with.q.head(head, head_dim);
  const Head<const T> k = with.k.head(head / with.group, head_dim);
  const Head<const T> v = with.v.head(head / with.group, head_dim);
  const Seen<kRows> seen(queries.begin, queries.end,
                         [&](int i) { return with.documents.keys_of(i); });

  Accumulator<Real, kQueries, kSlices> out;
  Running<Real> running[kRows];
  for (Range keys = seen.all; keys.begin < keys.end; keys.begin += kKeys) {
    Real scores[kRows][kKeys / kSide];
    query_times_key<T, kQueries, kKeys>(scores, shared, q, k, queries, keys, head_dim);
    soften_tile(scores, running, out, shared.probabilities, seen, keys.begin, with.scaling);
    out.template add_products<kKeys>(shared.probabilities, shared.key_slice, v, keys.begin,
                                     keys.end, head_dim);
  }

  LONGSPAN_UNROLL
  for (int i = 0; i < kRows; ++i) running[i].sum = sum_of_row(running[i].sum);
  out.store(with.out.head(head, head_dim), queries.begin, queries.end, head_dim,
            [&](int i) { return running[i].sum == Real(0) ? Real(0) : Real(1) / running[i].sum; });
  LONGSPAN_UNROLL
  for (int i = 0; i < kRows; ++i) {
    const int query = queries.begin + down() + i * kSide;
    if (across() != 0 || query >= queries.end) continue;
    with.lse[head * with.lse_stride + query] = running[i].highest + std::log(running[i].sum);
  }
}

}  // namespace
}  // namespace plain

void attention_plain_forward(const Queue& queue, const Tensor& out, const Tensor& lse,
                             const Tensor& q, const Tensor& k, const Tensor& v,
                             const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                             const AttentionOptions& options) {
  check_attention(out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, options);
  plain::check_head_dim("attention_forward", q);
  if (q.elements() == 0) return;
  const PlainAttentionScratch places = PlainAttentionScratch::forward(q, k);
  const Tensor scratch = queue.backend->allocate({static_cast<Index>(places.bytes)},
                                                 base::DType::kUInt8, MemoryTag::kWorkspace);
  const plain::Documents documents = plain::upload_documents(
      queue, cu_seqlens_q, cu_seqlens_k, options,
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
                                 plain::Scaling<Compute<T>>(options)};
    plain::dispatch_slices(q.size(2), [&]<int kSlices>() {
      constexpr int kQueries = plain::ForwardTile<Compute<T>, kSlices>::kQueries;
      const Index blocks = divide_up(q.size(0), kQueries) * q.size(1);
      LONGSPAN_LAUNCH((plain::forward_kernel<T, kSlices>), static_cast<unsigned>(blocks),
                      plain::kThreads, 0, queue.stream, with);
    });
  });
}

}  // namespace longspan::backend::cuda
