#include "backend/cuda_scratch.h"

#include <algorithm>

#include "backend/checks.h"

namespace longspan::backend {
namespace {

Index blocks_of(Index count, Index each) { return (count + each - 1) / each; }

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
  shares.columns = (width + kPackOfSmallest - 1) / kPackOfSmallest * kPackOfSmallest;
  const Index most = std::max(kFewBlocks, kShareElements / std::max<Index>(1, shares.pitch()));
  shares.rows_each = std::max(kFewestRows, (tokens + most - 1) / most);
  shares.blocks = (tokens + shares.rows_each - 1) / shares.rows_each;
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
  cuts = blocks_of(columns, kSumElements);
}

Index SumPieces::count() const { return blocks_of(rows, rows_each) * cuts; }

std::size_t sum_scratch_bytes(const Tensor& in) {
  if (in.elements() == 0) return 0;
  const auto numbers = static_cast<std::size_t>(1 + SumPieces(in).count());  // the total first
  return numbers * sizeof(double);
}

EmbeddingBackwardScratch::EmbeddingBackwardScratch(Index tokens, Index hidden, base::DType dtype) {
  Layout layout;
  order = layout.place(tokens, sizeof(std::int32_t));
  sorted = layout.place(tokens, sizeof(std::int32_t));
  counts = layout.place(kSortDigits * blocks_of(tokens, kSortTokens), sizeof(std::int32_t));
  starts = layout.place(kSortDigits, sizeof(std::int32_t));
  sums = layout.place(blocks_of(tokens, kSumTokens) * hidden, base::size_of(compute_dtype(dtype)));
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

FastAttentionScratch FastAttentionScratch::forward(const Tensor& q) {
  FastAttentionScratch scratch;
  scratch.statistics = static_cast<std::size_t>(q.size(0) * q.size(1)) * sizeof(float);
  return scratch;
}

namespace {

/// Of all heads together.
FastAttentionScratch of_all_heads(const Tensor& q, const Tensor& k, bool dense_gradients) {
  FastAttentionScratch scratch = FastAttentionScratch::forward(q);
  // Each query's dout . out, dq in float32 and, where heads share keys, dk and dv of every head.
  const auto elements = static_cast<std::size_t>(q.elements());
  scratch.workspace = scratch.statistics + elements * sizeof(float);
  if (k.size(1) != q.size(1)) scratch.workspace += 2 * elements * sizeof(float);
  if (!dense_gradients) {
    scratch.dq = q.bytes();
    scratch.dk_and_dv = k.bytes();
  }
  return scratch;
}

}  // namespace

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
                                                    bool dense_gradients) {
  const auto count = static_cast<std::size_t>(parts(q, k));
  // The columns of some heads are never dense.
  const FastAttentionScratch all = of_all_heads(q, k, dense_gradients && count == 1);
  return {all.statistics / count, all.workspace / count, all.dq / count, all.dk_and_dv / count};
}

}  // namespace longspan::backend
