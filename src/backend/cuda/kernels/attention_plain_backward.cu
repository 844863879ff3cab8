#include <cmath>
#include <limits>

#include "backend/cuda/kernels/attention_plain.h"

// Two kernels, one for the gradients of queries and one for those of keys and values: each block
// owns the rows that it writes and goes over all columns that they see, in their order. So nothing
// is added atomically, at the price of computing scores twice.
namespace longspan::backend::cuda {
namespace plain {
namespace {

/// As in the forward; the tile's rows are what a block owns.
template <typename Real, int kSlices>
struct BackwardTile {
  static constexpr bool kWide = sizeof(Real) == 8;
  static constexpr int kRows = kWide ? (kSlices == 4 ? 32 : 16)
                                     : (kSlices == 4   ? 64
                                        : kSlices == 8 ? 32
                                                       : 16);
  static constexpr int kColumns = kWide ? 16 : 32;
};

template <typename T>
struct Backward {
  Heads<T> dq, dk, dv;
  Heads<const T> dout, out, q, k, v;
  const Compute<T>* lse;
  Compute<T>* delta;  ///< [heads, queries]: dout . out
  Documents documents;
  Index lse_stride;
  int queries, keys;
  int heads, group;  ///< query heads, and of them those that read one KV head
  int head_dim;
  Scaling<Compute<T>> scaling;

  /// +infinity where the query has seen nothing: its probabilities are then 0.
  __device__ Compute<T> lse_of(int head, int query) const {
    constexpr Compute<T> kInfinity = std::numeric_limits<Compute<T>>::infinity();
    const Compute<T> value = lse[head * lse_stride + query];
    return value == -kInfinity ? kInfinity : value;
  }
  __device__ Compute<T> delta_of(int head, int query) const {
    return delta[static_cast<Index>(head) * queries + query];
  }
};

/// A query and head a warp.
template <typename T>
__global__ void delta_kernel(Backward<T> with) {
  constexpr int kWarps = kThreads / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const Index pair =
      static_cast<Index>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kLanes;
  if (pair >= static_cast<Index>(with.queries) * with.heads) return;
  const auto query = pair / with.heads;
  const int head = static_cast<int>(pair % with.heads);
  const T* out = with.out.head(head, with.head_dim).at(query, 0);
  const T* dout = with.dout.head(head, with.head_dim).at(query, 0);
  Compute<T> sum = 0;
  for (int d = lane; d < with.head_dim; d += kLanes) sum += load(out[d]) * load(dout[d]);
  sum = warp_sum(sum);
  if (lane == 0) with.delta[static_cast<Index>(head) * with.queries + query] = sum;
}

/// Tokens of one side of a tile, with the two tensors that meet those of the other side: q and
/// dout, or k and v.
template <typename T>
struct Side {
  Head<const T> first, second;
  int begin, end;
};

template <typename Real, int kRows, int kColumns>
struct SharedSlices {
  Real row_first[kRows * kPitch], row_second[kRows * kPitch];
  Real column_first[kColumns * kPitch], column_second[kColumns * kPitch];
};

/// scores[i][j] = first of row i . first of column j, dprobabilities likewise with the second ones.
template <int kRows, int kColumns, typename T>
__device__ void products(Compute<T> (&scores)[kRows / kSide][kColumns / kSide],
                         Compute<T> (&dprobabilities)[kRows / kSide][kColumns / kSide],
                         SharedSlices<Compute<T>, kRows, kColumns>& shared, const Side<T>& rows,
                         const Side<T>& columns, int head_dim) {
  set_zero(scores);
  set_zero(dprobabilities);
  for (int d = 0; d < head_dim; d += kSlice) {
    __syncthreads();  // what was in the slices has been used
    load_slice<kRows>(shared.row_first, rows.first, rows.begin, rows.end, d, head_dim);
    load_slice<kRows>(shared.row_second, rows.second, rows.begin, rows.end, d, head_dim);
    load_slice<kColumns>(shared.column_first, columns.first, columns.begin, columns.end, d,
                         head_dim);
    load_slice<kColumns>(shared.column_second, columns.second, columns.begin, columns.end, d,
                         head_dim);
    __syncthreads();
    multiply<kSlice, SliceRows, SliceRows>(scores, shared.row_first, shared.column_first);
    multiply<kSlice, SliceRows, SliceRows>(dprobabilities, shared.row_second, shared.column_second);
  }
}

/// dq of a tile of queries of one head.
template <typename T, int kSlices>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce<Compute<T>>)
    query_kernel(Backward<T> with) {
  using Real = Compute<T>;
  using Tile = BackwardTile<Real, kSlices>;
  constexpr int kRows = Tile::kRows;
  constexpr int kColumns = Tile::kColumns;
  constexpr int kScorePitch = kColumns + 1;
  __shared__ SharedSlices<Real, kRows, kColumns> shared;
  __shared__ Real dscores[kRows * kScorePitch];

  const int head = static_cast<int>(blockIdx.x % with.heads);
  const int tiles = static_cast<int>(gridDim.x / with.heads);
  const int begin = (tiles - 1 - static_cast<int>(blockIdx.x / with.heads)) * kRows;
  const int end = begin + kRows < with.queries ? begin + kRows : with.queries;
  const int dim = with.head_dim;
  const int kv_head = head / with.group;
  const Side<T> rows{with.q.head(head, dim), with.dout.head(head, dim), begin, end};
  Side<T> columns{with.k.head(kv_head, dim), with.v.head(kv_head, dim), 0, 0};
  const Seen<kRows / kSide> seen(begin, end, [&](int i) { return with.documents.keys_of(i); });
  Real lse[kRows / kSide];
  Real delta[kRows / kSide];
  LONGSPAN_UNROLL
  for (int i = 0; i < kRows / kSide; ++i) {
    const int query = begin + down() + i * kSide;
    lse[i] = query < end ? with.lse_of(head, query) : Real(0);
    delta[i] = query < end ? with.delta_of(head, query) : Real(0);
  }

  Accumulator<Real, kRows, kSlices> dq;
  columns.end = seen.all.end;
  for (columns.begin = seen.all.begin; columns.begin < columns.end; columns.begin += kColumns) {
    Real scores[kRows / kSide][kColumns / kSide];
    Real dprobabilities[kRows / kSide][kColumns / kSide];
    products<kRows, kColumns>(scores, dprobabilities, shared, rows, columns, dim);
    LONGSPAN_UNROLL
    for (int i = 0; i < kRows / kSide; ++i) {
      LONGSPAN_UNROLL
      for (int j = 0; j < kColumns / kSide; ++j) {
        const int key = across() + j * kSide;
        Real dscore = 0;
        if (seen.sees(i, columns.begin + key)) {
          const Score<Real> score = with.scaling(scores[i][j]);
          const Real probability = std::exp(score.value - lse[i]);
          dscore = score.slope * probability * (dprobabilities[i][j] - delta[i]);
        }
        dscores[(down() + i * kSide) * kScorePitch + key] = dscore;
      }
    }
    dq.template add_products<kColumns>(dscores, shared.column_first, columns.first, columns.begin,
                                       columns.end, dim);
  }
  dq.store(with.dq.head(head, dim), begin, end, dim, [](int) { return Real(1); });
}

/// dk and dv of a tile of keys of one KV head: of all query heads that read it, one after another.
template <typename T, int kSlices>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce<Compute<T>>)
    key_kernel(Backward<T> with) {
  using Real = Compute<T>;
  using Tile = BackwardTile<Real, kSlices>;
  constexpr int kRows = Tile::kRows;
  constexpr int kColumns = Tile::kColumns;
  constexpr int kScorePitch = kColumns + 1;
  __shared__ SharedSlices<Real, kRows, kColumns> shared;
  __shared__ Real probabilities[kRows * kScorePitch];
  __shared__ Real dscores[kRows * kScorePitch];

  const int kv_heads = with.heads / with.group;
  const int kv_head = static_cast<int>(blockIdx.x % kv_heads);
  // The first keys of a document are seen by most queries: their tiles begin first.
  const int begin = static_cast<int>(blockIdx.x / kv_heads) * kRows;
  const int end = begin + kRows < with.keys ? begin + kRows : with.keys;
  const int dim = with.head_dim;
  const Side<T> rows{with.k.head(kv_head, dim), with.v.head(kv_head, dim), begin, end};
  const Seen<kRows / kSide> seen(begin, end, [&](int i) { return with.documents.queries_of(i); });

  Accumulator<Real, kRows, kSlices> dk;
  Accumulator<Real, kRows, kSlices> dv;
  for (int head = kv_head * with.group; head < (kv_head + 1) * with.group; ++head) {
    Side<T> columns{with.q.head(head, dim), with.dout.head(head, dim), seen.all.begin,
                    seen.all.end};
    for (; columns.begin < columns.end; columns.begin += kColumns) {
      Real scores[kRows / kSide][kColumns / kSide];
      Real dprobabilities[kRows / kSide][kColumns / kSide];
      products<kRows, kColumns>(scores, dprobabilities, shared, rows, columns, dim);
      LONGSPAN_UNROLL
      for (int j = 0; j < kColumns / kSide; ++j) {
        const int query = columns.begin + across() + j * kSide;
        const bool inside = query < columns.end;
        const Real lse = inside ? with.lse_of(head, query) : Real(0);
        const Real delta = inside ? with.delta_of(head, query) : Real(0);
        LONGSPAN_UNROLL
        for (int i = 0; i < kRows / kSide; ++i) {
          Real probability = 0;
          Real dscore = 0;
          if (seen.sees(i, query)) {
            const Score<Real> score = with.scaling(scores[i][j]);
            probability = std::exp(score.value - lse);
            dscore = score.slope * probability * (dprobabilities[i][j] - delta);
          }
          const int at = (down() + i * kSide) * kScorePitch + across() + j * kSide;
          probabilities[at] = probability;
          dscores[at] = dscore;
        }
      }
      dk.template add_products<kColumns>(dscores, shared.column_first, columns.first, columns.begin,
                                         columns.end, dim);
      dv.template add_products<kColumns>(probabilities, shared.column_first, columns.second,
                                         columns.begin, columns.end, dim);
    }
  }
  const auto one = [](int) { return Real(1); };
  dk.store(with.dk.head(kv_head, dim), begin, end, dim, one);
  dv.store(with.dv.head(kv_head, dim), begin, end, dim, one);
}

template <typename T, int kSlices>
void launch(const Queue& queue, const Backward<T>& with) {
  constexpr Index kRows = BackwardTile<Compute<T>, kSlices>::kRows;
  const auto threads = static_cast<unsigned>(kThreads);
  if (with.queries > 0) {
    const Index pairs = static_cast<Index>(with.queries) * with.heads;
    LONGSPAN_LAUNCH(delta_kernel<T>, static_cast<unsigned>(divide_up(pairs, kThreads / kLanes)),
                    threads, 0, queue.stream, with);
    const Index blocks = divide_up(with.queries, kRows) * with.heads;
    LONGSPAN_LAUNCH((query_kernel<T, kSlices>), static_cast<unsigned>(blocks), threads, 0,
                    queue.stream, with);
  }
  if (with.keys > 0) {
    const Index blocks = divide_up(with.keys, kRows) * (with.heads / with.group);
    LONGSPAN_LAUNCH((key_kernel<T, kSlices>), static_cast<unsigned>(blocks), threads, 0,
                    queue.stream, with);
  }
}

}  // namespace
}  // namespace plain

void attention_plain_backward(const Queue& queue, const Tensor& dq, const Tensor& dk,
                              const Tensor& dv, const Tensor& dout, const Tensor& out,
                              const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                              const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                              const AttentionOptions& options) {
  check_attention(out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, options);
  check_attention(dout, lse, dq, dk, dv, cu_seqlens_q, cu_seqlens_k, options);
  plain::check_head_dim("attention_backward", q);
  if (q.elements() + k.elements() == 0) return;
  const PlainAttentionScratch places = PlainAttentionScratch::backward(q, k);
  const Tensor scratch = queue.backend->allocate({static_cast<Index>(places.bytes)},
                                                 base::DType::kUInt8, MemoryTag::kWorkspace);
  auto* memory = scratch.data<std::uint8_t>();
  const plain::Documents documents =
      plain::upload_documents(queue, cu_seqlens_q, cu_seqlens_k, options,
                              reinterpret_cast<std::int32_t*>(memory + places.boundaries));
  dispatch_float("attention_backward", "q", q, [&]<typename T>() {
    using Real = Compute<T>;
    const plain::Backward<T> with{plain::Heads<T>(dq),
                                  plain::Heads<T>(dk),
                                  plain::Heads<T>(dv),
                                  plain::Heads<const T>(dout),
                                  plain::Heads<const T>(out),
                                  plain::Heads<const T>(q),
                                  plain::Heads<const T>(k),
                                  plain::Heads<const T>(v),
                                  lse.data<Real>(),
                                  reinterpret_cast<Real*>(memory + places.delta),
                                  documents,
                                  lse.row_stride(),
                                  static_cast<int>(q.size(0)),
                                  static_cast<int>(k.size(0)),
                                  static_cast<int>(q.size(1)),
                                  static_cast<int>(q.size(1) / k.size(1)),
                                  static_cast<int>(q.size(2)),
                                  plain::Scaling<Real>(options)};
    plain::dispatch_slices(q.size(2),
                           [&]<int kSlices>() { plain::launch<T, kSlices>(queue, with); });
  });
}

}  // namespace longspan::backend::cuda
