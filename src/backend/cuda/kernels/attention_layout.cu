#include "backend/cuda/attention_layout.h"

#include <cuda_platform.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "backend/checks.h"
#include "backend/divide_up.h"

namespace longspan::backend::cuda {
namespace {

constexpr int kThreads = 256;
/// Documents of one launch: arguments of a kernel take at most 4 KiB together.
constexpr int kPage = 224;
/// Blocks that share the rows of one document.
constexpr unsigned kSlices = 64;

struct Rows {
  std::int32_t begin, size;
};

/// Some of the documents, and what number the first of them has.
struct Page {
  Rows queries[kPage];
  Rows keys[kPage];
  std::int32_t first = 0;
  std::int32_t count = 0;
};

struct Tables {
  OffsetsOf of[kMostOffsets];
  int count = 0;
};

unsigned blocks_for(Index threads) { return static_cast<unsigned>(divide_up(threads, kThreads)); }

/// What precedes the columns without tokens.
struct Ends {
  Index queries, keys;
};
static_assert(sizeof(Page) + sizeof(Tables) + 128 <= 4096);

Rows rows_of(Index begin, Index size) {
  return {static_cast<std::int32_t>(begin), static_cast<std::int32_t>(size)};
}

Page page_of(const std::vector<DocumentRows>& documents, std::size_t first) {
  Page page;
  page.first = static_cast<std::int32_t>(first);
  for (std::size_t i = first; i < documents.size() && page.count < kPage; ++i) {
    page.queries[page.count] = rows_of(documents[i].q_begin, documents[i].queries);
    page.keys[page.count] = rows_of(documents[i].k_begin, documents[i].keys);
    ++page.count;
  }
  return page;
}

/// One thread a column, from the page's first to `last`. Columns behind the page's documents are
/// those without tokens.
__global__ void tables_kernel(std::int32_t* lengths, std::int64_t* offsets, Index columns,
                              Index last, Page page, Tables tables, Ends ends) {
  const Index i = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  const Index column = page.first + i;
  if (column >= last) return;
  const bool real = i < page.count;
  if (column < columns) {
    lengths[column] = real ? page.queries[i].size : 0;
    lengths[columns + column] = real ? page.keys[i].size : 0;
  }
  const Index q_begin = real ? page.queries[i].begin : ends.queries;
  const Index k_begin = real ? page.keys[i].begin : ends.keys;
  for (int table = 0; table < tables.count; ++table) {
    const OffsetsOf of = tables.of[table];
    const Index begin = of.side == TokenSide::kQueries ? q_begin : k_begin;
    offsets[table * (columns + 1) + column] = begin * of.stride;
  }
}

/// to[i, j] = from[j, i]; neighbouring threads write neighbouring elements. The rows of one side
/// are so short (heads) that what a warp reads stays in the cache for the next.
__global__ void transpose_kernel(float* to, Index to_stride, const float* from, Index from_stride,
                                 Index rows, Index columns) {
  const Index at = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  if (at >= rows * columns) return;
  const Index row = at / columns;
  const Index column = at % columns;
  to[row * to_stride + column] = from[column * from_stride + row];
}

void transpose(const Queue& queue, const Tensor& to, const Tensor& from) {
  if (to.elements() == 0) return;
  expect("attention_layout", "to", to, base::DType::kFloat32, {from.size(1), from.size(0)});
  LONGSPAN_LAUNCH(transpose_kernel, blocks_for(to.elements()), kThreads, 0, queue.stream,
                  to.data<float>(), to.row_stride(), from.data<float>(), from.row_stride(),
                  to.size(0), to.size(1));
}

/// One thread an element of stats [documents, heads, longest].
__global__ void padded_stats_kernel(float* stats, const float* lse, Index lse_stride,
                                    const std::int32_t* lengths, const std::int64_t* begins,
                                    Index documents, Index heads, Index longest) {
  const Index at = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  if (at >= documents * heads * longest) return;
  const Index document = at / (heads * longest);
  const Index head = at / longest % heads;
  const Index query = at % longest;
  // Behind a document any finite number will do: its probabilities there are masked.
  stats[at] = query < lengths[document] ? lse[head * lse_stride + begins[document] + query] : 0.0F;
}

/// Block (slice, i) fills its share of the rows of document i; element (row, j) of `width` lies at
/// row * row_stride + j * column_stride.
template <typename T>
__global__ void clear_kernel(T* data, Index row_stride, Index column_stride, Index width, T value,
                             Page page, TokenSide side) {
  const Rows rows = side == TokenSide::kQueries ? page.queries[blockIdx.y] : page.keys[blockIdx.y];
  const Index elements = rows.size * width;
  for (Index at = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
       at < elements; at += static_cast<Index>(gridDim.x) * kThreads) {
    data[(rows.begin + at / width) * row_stride + at % width * column_stride] = value;
  }
}

template <typename T>
void clear(const Queue& queue, T* data, Index row_stride, Index column_stride, Index width, T value,
           const AttentionBatch& batch, TokenSide side) {
  for (std::size_t first = 0; first < batch.left_out.size(); first += kPage) {
    const Page page = page_of(batch.left_out, first);
    const dim3 grid(kSlices, static_cast<unsigned>(page.count));
    LONGSPAN_LAUNCH(clear_kernel<T>, grid, kThreads, 0, queue.stream, data, row_stride,
                    column_stride, width, value, page, side);
  }
}

}  // namespace

void write_document_tables(const Queue& queue, const Tensor& lengths, const Tensor& offsets,
                           const AttentionBatch& batch, const std::vector<OffsetsOf>& tables) {
  const auto documents = static_cast<Index>(batch.attended.size());
  const Index columns = lengths.size(1);
  if (tables.size() > kMostOffsets || columns < documents) {
    contract_broken("document_tables", "lengths", lengths, "a column a document");
  }
  Tables all;
  for (const OffsetsOf& table : tables) all.of[all.count++] = table;
  expect("document_tables", "offsets", offsets, base::DType::kInt64, {all.count, columns + 1});
  const Ends ends{batch.tokens_q, batch.tokens_k};
  for (Index first = 0; first <= columns; first += kPage) {
    const Page page = page_of(batch.attended, static_cast<std::size_t>(first));
    const bool is_last = first + kPage >= documents;
    const Index last = is_last ? columns + 1 : first + kPage;
    LONGSPAN_LAUNCH(tables_kernel, blocks_for(last - first), kThreads, 0, queue.stream,
                    lengths.data<std::int32_t>(), offsets.data<std::int64_t>(), columns, last, page,
                    all, ends);
    if (is_last) return;
  }
}

void stats_to_lse(const Queue& queue, const Tensor& lse, const Tensor& stats) {
  transpose(queue, lse, stats);
}

void lse_to_stats(const Queue& queue, const Tensor& stats, const Tensor& lse) {
  transpose(queue, stats, lse);
}

void lse_to_padded_stats(const Queue& queue, const Tensor& stats, const Tensor& lse,
                         const Tensor& lengths, const Tensor& begins) {
  if (stats.elements() == 0) return;
  LONGSPAN_LAUNCH(padded_stats_kernel, blocks_for(stats.elements()), kThreads, 0, queue.stream,
                  stats.data<float>(), lse.data<float>(), lse.row_stride(),
                  lengths.data<std::int32_t>(), begins.data<std::int64_t>(), stats.size(0),
                  stats.size(1), stats.size(2));
}

void clear_left_out(const Queue& queue, const Tensor& rows, const AttentionBatch& batch,
                    TokenSide side) {
  clear(queue, rows.data<base::BFloat16>(), rows.row_stride(), 1, rows.row_elements(),
        base::BFloat16{}, batch, side);
}

void clear_left_out_lse(const Queue& queue, const Tensor& lse, const AttentionBatch& batch) {
  clear(queue, lse.data<float>(), 1, lse.row_stride(), lse.size(0), -INFINITY, batch,
        TokenSide::kQueries);
}

}  // namespace longspan::backend::cuda
