#include "backend/cuda_scratch.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "backend/checks.h"
#include "backend/divide_up.h"

namespace longspan::backend {
namespace {

/// Parts of one block of memory, each at a multiple of 256 bytes as the allocator's blocks are.
class Layout {
 public:
  /// The place of so many elements of `size` bytes.
  std::size_t place(Index elements, std::size_t size) {
    const std::size_t at = bytes_;
    bytes_ += (static_cast<std::size_t>(elements) * size + 255) / 256 * 256;
    return at;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

Index boundaries_of(const Tensor& q, const Tensor& k) { return 2 * (q.size(0) + k.size(0) + 1); }

std::size_t share_bytes(base::DType dtype, Index tokens, Index width, Index vectors) {
  return static_cast<std::size_t>(row_shares(tokens, width, vectors).elements()) *
         base::size_of(compute_dtype(dtype));
}

}  // namespace

RowShares row_shares(Index tokens, Index width, Index vectors) {
  constexpr Index kPackOfSmallest = 8;  // bfloat16 in 16 bytes
  constexpr Index kFewestRows = 8;      // fewer would write about as much as they read
  // Enough blocks for a large device, more where their rows are short, so that few threads each
  // still make many together.
  constexpr Index kFewBlocks = 512;
  constexpr Index kShareElements = Index{1} << 21;
  RowShares shares{};
  shares.vectors = vectors;
  shares.columns = divide_up(width, kPackOfSmallest) * kPackOfSmallest;
  const Index most = std::max(kFewBlocks, kShareElements / std::max<Index>(1, shares.pitch()));
  shares.rows_each = std::max(kFewestRows, divide_up(tokens, most));
  shares.blocks = divide_up(tokens, shares.rows_each);
  return shares;
}

std::size_t rms_norm_backward_scratch_bytes(base::DType dtype, Index tokens, Index hidden) {
  return share_bytes(dtype, tokens, hidden, 1);
}

std::size_t layer_norm_backward_scratch_bytes(base::DType dtype, Index tokens, Index hidden) {
  return share_bytes(dtype, tokens, hidden, 2);
}

std::size_t bias_backward_scratch_bytes(base::DType dtype, Index tokens, Index width) {
  return share_bytes(dtype, tokens, width, 1);
}

SumPieces::SumPieces(const Tensor& in) {
  const bool dense = in.is_dense();
  rows = dense ? 1 : in.size(0);
  columns = dense ? in.elements() : in.row_elements();
  if (rows * columns == 0) return;
  rows_each = std::max<Index>(1, kSumElements / columns);
  cuts = divide_up(columns, kSumElements);
}

Index SumPieces::count() const { return divide_up(rows, rows_each) * cuts; }

std::size_t sum_scratch_bytes(const Tensor& in) {
  if (in.elements() == 0) return 0;
  const auto numbers = static_cast<std::size_t>(1 + SumPieces(in).count());  // the total first
  return numbers * sizeof(double);
}

EmbeddingBackwardScratch::EmbeddingBackwardScratch(Index tokens, Index hidden, base::DType dtype) {
  Layout layout;
  order = layout.place(tokens, sizeof(std::int32_t));
  sorted = layout.place(tokens, sizeof(std::int32_t));
  counts = layout.place(kSortDigits * divide_up(tokens, kSortTokens), sizeof(std::int32_t));
  starts = layout.place(kSortDigits, sizeof(std::int32_t));
  sums = layout.place(divide_up(tokens, kSumTokens) * hidden, base::size_of(compute_dtype(dtype)));
  bytes = tokens * hidden == 0 ? 0 : layout.bytes();
}

PlainAttentionScratch PlainAttentionScratch::forward(const Tensor& q, const Tensor& k) {
  PlainAttentionScratch scratch;
  if (q.elements() == 0) return scratch;
  Layout layout;
  scratch.boundaries = layout.place(boundaries_of(q, k), sizeof(std::int32_t));
  scratch.bytes = layout.bytes();
  return scratch;
}

PlainAttentionScratch PlainAttentionScratch::backward(const Tensor& q, const Tensor& k) {
  PlainAttentionScratch scratch;
  if (q.elements() + k.elements() == 0) return scratch;
  Layout layout;
  scratch.boundaries = layout.place(boundaries_of(q, k), sizeof(std::int32_t));
  scratch.delta = layout.place(q.size(1) * q.size(0), base::size_of(compute_dtype(q.dtype())));
  scratch.bytes = layout.bytes();
  return scratch;
}

Index rounded_tokens(Index tokens) {
  constexpr Index kLeast = 128;
  if (tokens <= kLeast) return kLeast;
  const Index step = rounded_documents(tokens) / 16;
  return divide_up(tokens, step) * step;
}

std::size_t fast_attention_forward_workspace(Index rounded_documents) {
  return 768 + std::max<std::size_t>(16384, 256 * static_cast<std::size_t>(rounded_documents));
}

std::size_t fast_attention_backward_tables(Index rounded_documents) {
  return 1152 + 448 * static_cast<std::size_t>(rounded_documents);
}

Index rounded_documents(Index documents) {
  return static_cast<Index>(
      std::bit_ceil(static_cast<std::uint64_t>(std::max<Index>(documents, 1))));
}

namespace {

void add_tables(FastAttentionScratch& scratch, Index documents, Index tensors) {
  const auto rounded = static_cast<std::size_t>(rounded_documents(documents));
  scratch.lengths = 2 * rounded * sizeof(std::int32_t);
  scratch.offsets = static_cast<std::size_t>(tensors) * (rounded + 1) * sizeof(std::int64_t);
}

std::size_t statistics_bytes(Index tokens, const Tensor& q) {
  return static_cast<std::size_t>(tokens * q.size(1)) * sizeof(float);
}

/// Of the backward of all heads together, without tables.
FastAttentionScratch of_all_heads(const Tensor& q, const Tensor& k, bool dense_gradients) {
  FastAttentionScratch scratch;
  scratch.statistics = statistics_bytes(q.size(0), q);
  // Each query's dout . out, dq in float32 and, where heads share keys, dk and dv of every head: of
  // the tokens that the plan was made for.
  const Index queries = rounded_tokens(q.size(0));
  const Index keys = rounded_tokens(k.size(0));
  const Index width = q.size(1) * q.size(2);
  const Index rows = queries + (k.size(1) == q.size(1) ? 0 : 2 * keys);
  scratch.workspace =
      statistics_bytes(queries, q) + static_cast<std::size_t>(rows * width) * sizeof(float);
  if (!dense_gradients) {
    scratch.dq = q.bytes();
    scratch.dk_and_dv = k.bytes();
  }
  return scratch;
}

}  // namespace

FastAttentionScratch FastAttentionScratch::forward(const Tensor& q, Index documents) {
  FastAttentionScratch scratch;
  if (documents == 0) return scratch;
  scratch.statistics = statistics_bytes(q.size(0), q);
  scratch.workspace = fast_attention_forward_workspace(rounded_documents(documents));
  add_tables(scratch, documents, /*tensors=*/5);
  return scratch;
}

Index FastAttentionScratch::parts(const Tensor& q, const Tensor& k, std::size_t most) {
  const FastAttentionScratch all = of_all_heads(q, k, /*dense_gradients=*/false);
  const std::size_t bytes = all.statistics + all.workspace + all.dq + 2 * all.dk_and_dv;
  Index parts = 1;
  while (parts < k.size(1) &&
         (k.size(1) % parts != 0 || bytes / static_cast<std::size_t>(parts) > most)) {
    ++parts;
  }
  return parts;
}

FastAttentionScratch FastAttentionScratch::backward(const Tensor& q, const Tensor& k,
                                                    Index documents, bool dense_gradients) {
  if (documents == 0) return {};
  const auto count = static_cast<std::size_t>(parts(q, k));
  // The columns of some heads are never dense.
  FastAttentionScratch scratch = of_all_heads(q, k, dense_gradients && count == 1);
  for (std::size_t* bytes :
       {&scratch.statistics, &scratch.workspace, &scratch.dq, &scratch.dk_and_dv}) {
    *bytes /= count;
  }
  scratch.workspace += fast_attention_backward_tables(rounded_documents(documents));
  add_tables(scratch, documents, /*tensors=*/9);
  return scratch;
}

}  // namespace longspan::backend
