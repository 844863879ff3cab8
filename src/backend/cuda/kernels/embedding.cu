#include <bit>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/device.h"
#include "backend/cuda/kernels/sort.h"
#include "backend/cuda_scratch.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 128;

// --- gather_rows ------------------------------------------------------------------------------

template <typename T>
struct Gather {
  T* out;
  const std::int32_t* ids;
  const T* table;
  Index out_stride, table_stride;
  Index tokens, rows;
  Index hidden;
};

/// Not a number, which shows in the loss: the host cannot look at ids without waiting for them.
template <typename T>
__device__ T no_such_row() {
  return round_to<T>(nan(""));
}

/// `lanes` threads copy one row, pack by pack.
template <typename T, int kCount>
__global__ void gather_kernel(Gather<T> with, int lanes) {
  const Index token =
      static_cast<Index>(blockIdx.x) * (kThreads / lanes) + static_cast<int>(threadIdx.x) / lanes;
  if (token >= with.tokens) return;
  const std::int32_t id = with.ids[token];
  const bool copies = id >= 0 && id < with.rows;
  const T* row = with.table + (copies ? id : 0) * with.table_stride;
  T* out = with.out + token * with.out_stride;
  Pack<T, kCount> constant;
  LONGSPAN_UNROLL
  for (int i = 0; i < kCount; ++i) {
    constant.values[i] = id < 0 ? round_to<T>(Compute<T>(0)) : no_such_row<T>();
  }
  for (Index h = Index{static_cast<int>(threadIdx.x) % lanes} * kCount; h < with.hidden;
       h += Index{lanes} * kCount) {
    store_pack(out + h, copies ? load_pack<kCount>(row + h) : constant);
  }
}

template <typename T, int kCount>
void launch_gather(const Queue& queue, const Gather<T>& with) {
  int lanes = kLanes;
  while (lanes < kThreads && lanes * kCount < with.hidden) lanes *= 2;
  const auto blocks = static_cast<unsigned>(divide_up(with.tokens, kThreads / lanes));
  LONGSPAN_LAUNCH((gather_kernel<T, kCount>), blocks, kThreads, 0, queue.stream, with, lanes);
}

// --- embedding_backward -------------------------------------------------------------------------

/// Tokens in the order of their ids. Those of one id are a run; where a run crosses a multiple of
/// kSumTokens it is cut, so that a frequent token is not the work of one thread: what follows a cut
/// is summed in scratch first.
template <typename T>
struct Sums {
  using Real = Compute<T>;

  Real* dtable;
  const T* dy;
  const std::int32_t* ids;
  const std::int32_t* order;
  Real* cut_sums;  ///< [blocks of kSumTokens, hidden]
  Index dtable_stride, dy_stride;
  Index tokens, rows;
  Index hidden;

  __device__ std::int32_t id(Index place) const { return ids[order[place]]; }
  __device__ bool begins_run(Index place) const { return place == 0 || id(place) != id(place - 1); }
  __device__ bool in_table(std::int32_t id) const { return id >= 0 && id < rows; }
};

/// sum += the rows of places [begin, end) of run `id`, in their order; returns where the run ends.
template <typename T, int kCount>
__device__ void add_run(Pack<Compute<T>, kCount>& sum, const Sums<T>& with, Index begin,
                        std::int32_t id, Index column) {
  constexpr int kInFlight = 8;
  const Index cut = (begin / kSumTokens + 1) * kSumTokens;
  const Index end = cut < with.tokens ? cut : with.tokens;
  for (Index place = begin; place < end; place += kInFlight) {
    Pack<T, kCount> rows[kInFlight] = {};
    int count = 0;
    LONGSPAN_UNROLL
    for (int i = 0; i < kInFlight; ++i) {
      if (place + i >= end) continue;
      const std::int32_t token = with.order[place + i];
      if (with.ids[token] != id) continue;  // and so do all that follow
      rows[i] = load_pack<kCount>(with.dy + token * with.dy_stride + column);
      count = i + 1;
    }
    LONGSPAN_UNROLL
    for (int i = 0; i < kInFlight; ++i) {
      if (i >= count) continue;
      LONGSPAN_UNROLL
      for (int j = 0; j < kCount; ++j) sum.values[j] += load(rows[i].values[j]);
    }
    if (count < kInFlight) return;
  }
}

/// Places whose runs a block adds up, one after the other.
constexpr int kPlaces = 8;

/// Adds each run, up to its first cut, to its row of the table, and sums what follows each cut.
/// Blocks in y take other columns.
template <typename T, int kCount>
__global__ void run_kernel(Sums<T> with) {
  using Real = Compute<T>;
  __shared__ std::int32_t ids[1 + kPlaces];  // of the place before, and the block's: read at once
  const Index first = static_cast<Index>(blockIdx.x) * kPlaces;
  if (threadIdx.x <= kPlaces) {
    const Index place = first - 1 + threadIdx.x;
    ids[threadIdx.x] = place >= 0 && place < with.tokens ? with.id(place) : -1;
  }
  __syncthreads();
  const Index column = (static_cast<Index>(blockIdx.y) * kThreads + threadIdx.x) * kCount;
  if (column >= with.hidden) return;
  for (int i = 1; i <= kPlaces && first - 1 + i < with.tokens; ++i) {
    const Index place = first - 1 + i;
    const std::int32_t id = ids[i];
    const bool begins = id != ids[i - 1];  // at place 0 too, unless the id is none
    if (!begins && place % kSumTokens != 0) continue;
    if (!with.in_table(id)) continue;
    Real* target = begins ? with.dtable + id * with.dtable_stride + column
                          : with.cut_sums + place / kSumTokens * with.hidden + column;
    Pack<Real, kCount> sum;
    if (begins) {
      sum = load_pack<kCount>(target);
    } else {
      LONGSPAN_UNROLL
      for (int j = 0; j < kCount; ++j) sum.values[j] = 0;
    }
    add_run<T, kCount>(sum, with, place, id, column);
    store_pack(target, sum);
  }
}

/// The block at a run's first cut adds the sums of all its cuts to the table, in their order.
template <typename T>
__global__ void cut_kernel(Sums<T> with) {
  const Index column = static_cast<Index>(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= with.hidden) return;
  const Index first = (static_cast<Index>(blockIdx.x) + 1) * kSumTokens;
  const std::int32_t id = with.id(first);
  if (with.begins_run(first) || !with.in_table(id)) return;
  // A run that was cut before has covered all of the places in between.
  const Index before = first - kSumTokens;
  if (with.id(before) == id && !with.begins_run(before)) return;
  Compute<T>* target = with.dtable + id * with.dtable_stride + column;
  Compute<T> sum = *target;
  for (Index place = first; place < with.tokens && with.id(place) == id; place += kSumTokens) {
    sum += with.cut_sums[place / kSumTokens * with.hidden + column];
  }
  *target = sum;
}

template <typename T>
void add_runs(const Queue& queue, const Sums<T>& with, bool packed) {
  const auto blocks = static_cast<unsigned>(divide_up(with.tokens, kPlaces));
  const auto slices = [&](int pack) {
    return static_cast<unsigned>(divide_up(with.hidden, Index{kThreads} * pack));
  };
  constexpr int kCount = kPack<T>;
  if (packed) {
    LONGSPAN_LAUNCH((run_kernel<T, kCount>), dim3(blocks, slices(kCount)), kThreads, 0,
                    queue.stream, with);
  } else {
    LONGSPAN_LAUNCH((run_kernel<T, 1>), dim3(blocks, slices(1)), kThreads, 0, queue.stream, with);
  }
  const auto cuts = static_cast<unsigned>((with.tokens - 1) / kSumTokens);
  if (cuts == 0) return;
  LONGSPAN_LAUNCH(cut_kernel<T>, dim3(cuts, slices(1)), kThreads, 0, queue.stream, with);
}

template <typename T>
void backward(const Queue& queue, const Tensor& dtable, const Tensor& dy, const Tensor& ids) {
  using Real = Compute<T>;
  const Index tokens = ids.size(0);
  const EmbeddingBackwardScratch places(tokens, dtable.size(1), dy.dtype());
  const Tensor scratch = queue.backend->allocate({static_cast<Index>(places.bytes)},
                                                 base::DType::kUInt8, MemoryTag::kWorkspace);
  const auto at = [&](std::size_t place) { return scratch.data<std::uint8_t>() + place; };
  const auto ints = [&](std::size_t place) { return reinterpret_cast<std::int32_t*>(at(place)); };
  const int id_bits = std::bit_width(static_cast<std::uint64_t>(dtable.size(0) - 1));
  const std::int32_t* order =
      sort_by_id(queue, ids.data<std::int32_t>(), tokens, id_bits, ints(places.order),
                 ints(places.sorted), ints(places.counts), ints(places.starts));
  const Sums<T> with{dtable.data<Real>(),
                     dy.data<T>(),
                     ids.data<std::int32_t>(),
                     order,
                     reinterpret_cast<Real*>(at(places.sums)),
                     dtable.row_stride(),
                     dy.row_stride(),
                     tokens,
                     dtable.size(0),
                     dtable.size(1)};
  add_runs(queue, with,
           dtable.size(1) % kPack<T> == 0 && packs_aligned(dy) && packs_aligned(dtable));
}

}  // namespace

void CudaKernels::gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table) {
  const Operation operation(*this, "gather_rows", out);
  check_gather_rows(out, ids, table);
  dispatch_float("gather_rows", "table", table, [&]<typename T>() {
    if (out.elements() == 0) return;
    const Gather<T> with{out.data<T>(),      ids.data<std::int32_t>(),
                         table.data<T>(),    out.row_stride(),
                         table.row_stride(), ids.size(0),
                         table.size(0),      table.size(1)};
    if (with.hidden % kPack<T> == 0 && packs_aligned(out) && packs_aligned(table)) {
      launch_gather<T, kPack<T>>(queue_, with);
    } else {
      launch_gather<T, 1>(queue_, with);
    }
  });
}

void CudaKernels::embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids) {
  const Operation operation(*this, "embedding_backward", dtable);
  check_embedding_backward(dtable, dy, ids);
  dispatch_float("embedding_backward", "dy", dy, [&]<typename T>() {
    if (dy.elements() > 0 && dtable.size(0) > 0) backward<T>(queue_, dtable, dy, ids);
  });
}

}  // namespace longspan::backend::cuda
