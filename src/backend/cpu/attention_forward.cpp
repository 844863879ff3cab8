#include "backend/cpu/attention_forward.h"

#include <limits>

namespace longspan::backend::cpu {
namespace {

/// Scores of a row that count.
struct Seen {
  Index begin, end;
};

/// Turns one row of raw scores into probabilities relative to the new running maximum, those that
/// do not count into 0. Returns what the row's earlier sums are scaled by.
template <typename T>
Compute<T> soften_row(Compute<T>* scores, T* probabilities, Seen seen, Index width,
                      Compute<T> scale, Compute<T>& maximum, Compute<T>& sum) {
  using Acc = Compute<T>;
  Acc highest = -std::numeric_limits<Acc>::infinity();
#pragma omp simd reduction(max : highest)
  for (Index j = seen.begin; j < seen.end; ++j) highest = scores[j] > highest ? scores[j] : highest;
  const Acc new_maximum = std::max(maximum, highest * scale);
  if (seen.begin >= seen.end) {
    for (Index j = 0; j < width; ++j) probabilities[j] = T(Acc(0));
    return Acc(1);
  }
  // No maximum: scores that are all -inf give 0, and those that are no numbers stay none.
  const bool has_maximum = new_maximum > -std::numeric_limits<Acc>::infinity();
  const Acc shift = has_maximum ? new_maximum : Acc(0);
  Acc row_sum = 0;
#pragma omp simd reduction(+ : row_sum)
  for (Index j = seen.begin; j < seen.end; ++j) {
    const Acc p = exponential(scores[j] * scale - shift);
    row_sum += p;
    scores[j] = p;
  }
  for (Index j = 0; j < seen.begin; ++j) probabilities[j] = T(Acc(0));
  for (Index j = seen.begin; j < seen.end; ++j) probabilities[j] = T(scores[j]);
  for (Index j = seen.end; j < width; ++j) probabilities[j] = T(Acc(0));
  const Acc correction = has_maximum ? exponential(maximum - new_maximum) : Acc(1);
  sum = sum * correction + row_sum;
  maximum = new_maximum;
  return correction;
}

/// scores = what the softmax sees of them, but for `scale`, which is returned.
template <typename Acc>
Acc cap_scores(Acc* scores, Index count, const AttentionOptions& options) {
  const auto scale = static_cast<Acc>(options.scale);
  if (options.soft_cap == 0.0F) return scale;
  const auto cap = static_cast<Acc>(options.soft_cap);
  const Acc inner = scale / cap;
#pragma omp simd
  for (Index j = 0; j < count; ++j) scores[j] = cap * hyperbolic_tangent(scores[j] * inner);
  return Acc(1);
}

}  // namespace

template <typename T>
void attention_forward_tile(const AttentionForward& call, const Document& document, Index head,
                            Index begin, TileMatmul& matmul, ForwardScratch<T>& scratch) {
  using Acc = Compute<T>;
  const Index head_dim = call.head_dim();
  const Index kv_head = head / call.group();
  const HeadView<const T> q(call.q, document.q_begin, head);
  const HeadView<const T> k(call.k, document.k_begin, kv_head);
  const HeadView<const T> v(call.v, document.k_begin, kv_head);
  const HeadView<T> out(call.out, document.q_begin, head);
  const Index count = std::min(kQueryTile, document.queries - begin);
  const Index rows = padded_size(count, kQueryTile);
  const bool causal = call.options.causal;
  const auto q_tile = padded_rows<T>(q, begin, document.queries, rows, head_dim, scratch.q.data());

  std::fill(scratch.out.begin(), scratch.out.end(), Acc(0));
  std::fill(scratch.maximum.begin(), scratch.maximum.end(), -std::numeric_limits<Acc>::infinity());
  std::fill(scratch.sum.begin(), scratch.sum.end(), Acc(0));
  const Index visible_keys = document.visible(begin + count - 1, causal);
  const Index first_key = document.first_key(begin, call.options) / kKeyTile * kKeyTile;
  for (Index key = first_key; key < visible_keys; key += kKeyTile) {
    const Index width = padded_size(std::min(kKeyTile, visible_keys - key), kKeyTile);
    const auto k_tile = padded_rows<T>(k, key, document.keys, width, head_dim, scratch.k.data());
    const auto v_tile = padded_rows<T>(v, key, document.keys, width, head_dim, scratch.v.data());
    matmul.run<T>({scratch.scores.data(), width}, q_tile, k_tile, rows, width, head_dim, true,
                  false);
    const Acc scale = cap_scores(scratch.scores.data(), rows * width, call.options);
    for (Index i = 0; i < rows; ++i) {
      const auto within = [&](Index of_document) {
        return i < count ? std::clamp<Index>(of_document - key, 0, width) : 0;
      };
      const Seen seen{within(document.first_key(begin + i, call.options)),
                      within(document.visible(begin + i, causal))};
      const auto row = static_cast<std::size_t>(i);
      const Acc correction =
          soften_row<T>(scratch.scores.data() + i * width, scratch.probabilities.data() + i * width,
                        seen, width, scale, scratch.maximum[row], scratch.sum[row]);
      if (correction == Acc(1)) continue;
      Acc* out_row = scratch.out.data() + i * head_dim;
      for (Index d = 0; d < head_dim; ++d) out_row[d] *= correction;
    }
    matmul.run<T>({scratch.out.data(), head_dim}, {scratch.probabilities.data(), width}, v_tile,
                  rows, head_dim, width, false, true);
  }

  Acc* lse = call.lse.data<Acc>() + head * call.lse.row_stride() + document.q_begin + begin;
  for (Index i = 0; i < count; ++i) {
    const auto row = static_cast<std::size_t>(i);
    const Acc inverse = scratch.sum[row] == Acc(0) ? Acc(0) : Acc(1) / scratch.sum[row];
    const Acc* source = scratch.out.data() + i * head_dim;
    T* target = out.row(begin + i);
    for (Index d = 0; d < head_dim; ++d) target[d] = T(source[d] * inverse);
    lse[i] = scratch.maximum[row] + std::log(scratch.sum[row]);
  }
}

template void attention_forward_tile<float>(const AttentionForward&, const Document&, Index, Index,
                                            TileMatmul&, ForwardScratch<float>&);
template void attention_forward_tile<double>(const AttentionForward&, const Document&, Index, Index,
                                             TileMatmul&, ForwardScratch<double>&);
template void attention_forward_tile<base::BFloat16>(const AttentionForward&, const Document&,
                                                     Index, Index, TileMatmul&,
                                                     ForwardScratch<base::BFloat16>&);

}  // namespace longspan::backend::cpu
