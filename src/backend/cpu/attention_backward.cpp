#include "backend/cpu/attention_backward.h"

#include <limits>

#include "backend/elementwise/soft_cap.h"

namespace longspan::backend::cpu {
namespace {

Index whole_tiles(Index count, Index tile) { return (count + tile - 1) / tile * tile; }

std::size_t product(Index a, Index b) { return static_cast<std::size_t>(a * b); }

/// A tile's place in its document. Scores of the backward are held transposed, [keys, queries]:
/// then P^T and dS^T are what dV and dK multiply from the left, and log-sum-exp and delta lie along
/// the fast axis.
struct Place {
  Index key, keys;       ///< first key, padded number of keys
  Index query, queries;  ///< first query, padded number of queries
};

/// Where scores are capped: they become what the softmax sees of them, and scratch.slopes the
/// derivatives of that by scale * S^T. Returns what the softmax multiplies scores with.
template <typename T>
Compute<T> cap_scores(const Place& place, const AttentionOptions& options,
                      BackwardScratch<T>& scratch) {
  using Acc = Compute<T>;
  const auto scale = static_cast<Acc>(options.scale);
  if (options.soft_cap == 0.0F) return scale;
  const auto cap = static_cast<Acc>(options.soft_cap);
  const Acc inner = scale / cap;
  const Index count = place.keys * place.queries;
  scratch.slopes.resize(scratch.scores.size());
  Acc* scores = scratch.scores.data();
  Acc* slopes = scratch.slopes.data();
#pragma omp simd
  for (Index j = 0; j < count; ++j) {
    const Acc tangent = hyperbolic_tangent(scores[j] * inner);
    scores[j] = cap * tangent;
    slopes[j] = soft_cap_slope(tangent);
  }
  return Acc(1);
}

/// P^T = exp(scale * S^T - lse), of capped scores where they are, 0 where the key is not seen.
template <typename T>
void probabilities(const Document& document, const Place& place, const AttentionOptions& options,
                   BackwardScratch<T>& scratch) {
  using Acc = Compute<T>;
  const Acc scale = cap_scores<T>(place, options, scratch);
  const Acc* lse = scratch.lse.data() + place.query;
  for (Index i = 0; i < place.keys; ++i) {
    const Index key = place.key + i;
    const Index first =
        key < document.keys ? document.first_query(key, options.causal) : document.queries;
    const Index hidden = std::clamp<Index>(first - place.query, 0, place.queries);
    const Index seen =
        std::clamp<Index>(document.end_query(key, options) - place.query, hidden, place.queries);
    Acc* scores = scratch.scores.data() + i * place.queries;
    T* row = scratch.probabilities.data() + i * place.queries;
    for (Index j = 0; j < hidden; ++j) scores[j] = Acc(0);
#pragma omp simd
    for (Index j = hidden; j < seen; ++j) {
      scores[j] = exponential(scores[j] * scale - lse[j]);
    }
    for (Index j = seen; j < place.queries; ++j) scores[j] = Acc(0);
    for (Index j = 0; j < place.queries; ++j) row[j] = T(scores[j]);
  }
}

/// dS^T = scale * P^T * (dP^T - delta), times the slopes of the cap if there is one.
template <typename T>
void score_gradients(const Place& place, const AttentionOptions& options,
                     BackwardScratch<T>& scratch) {
  using Acc = Compute<T>;
  const auto scale = static_cast<Acc>(options.scale);
  const Acc* delta = scratch.delta.data() + place.query;
  for (Index i = 0; i < place.keys; ++i) {
    const Acc* p = scratch.scores.data() + i * place.queries;
    const Acc* dp = scratch.dprobabilities.data() + i * place.queries;
    T* row = scratch.dscores.data() + i * place.queries;
    if (options.soft_cap == 0.0F) {
      for (Index j = 0; j < place.queries; ++j) row[j] = T(scale * p[j] * (dp[j] - delta[j]));
      continue;
    }
    const Acc* slopes = scratch.slopes.data() + i * place.queries;
    for (Index j = 0; j < place.queries; ++j) {
      row[j] = T(scale * slopes[j] * p[j] * (dp[j] - delta[j]));
    }
  }
}

/// delta[i] = sum_d dout[i, d] * out[i, d], and a copy of lse in which queries that see nothing,
/// or pad the last tile, have +infinity: their probabilities are then 0.
template <typename T>
void prepare_rows(const AttentionBackward& call, const Document& document, Index head,
                  BackwardScratch<T>& scratch) {
  using Acc = Compute<T>;
  constexpr Acc kInfinity = std::numeric_limits<Acc>::infinity();
  const HeadView<const T> out(call.out, document.q_begin, head);
  const HeadView<const T> dout(call.dout, document.q_begin, head);
  const Acc* lse = call.lse.data<Acc>() + head * call.lse.row_stride() + document.q_begin;
  const Index padded = whole_tiles(document.queries, kQueryTile);
  for (Index i = 0; i < padded; ++i) {
    const auto row = static_cast<std::size_t>(i);
    scratch.lse[row] = kInfinity;
    scratch.delta[row] = Acc(0);
    if (i >= document.queries) continue;
    if (lse[i] != -kInfinity) scratch.lse[row] = lse[i];
    Acc sum = 0;
    for (Index d = 0; d < call.head_dim(); ++d) {
      sum += static_cast<Acc>(out.row(i)[d]) * static_cast<Acc>(dout.row(i)[d]);
    }
    scratch.delta[row] = sum;
  }
}

template <typename T>
void transpose_rows(const Tile<const T>& rows, Index count, Index head_dim, T* out) {
  for (Index i = 0; i < count; ++i) {
    for (Index d = 0; d < head_dim; ++d) out[d * count + i] = rows.data[i * rows.stride + d];
  }
}

/// All query tiles of one head against one tile of keys.
template <typename T>
void backward_keys(const AttentionBackward& call, const Document& document, Index head, Index key,
                   TileMatmul& matmul, BackwardScratch<T>& scratch) {
  const Index head_dim = call.head_dim();
  const Index kv_head = head / call.group();
  const HeadView<const T> q(call.q, document.q_begin, head);
  const HeadView<const T> dout(call.dout, document.q_begin, head);
  const HeadView<const T> k(call.k, document.k_begin, kv_head);
  const HeadView<const T> v(call.v, document.k_begin, kv_head);
  Place place{};
  place.key = key;
  place.keys = padded_size(std::min(kKeyTile, document.keys - key), kKeyTile);
  const auto k_tile = padded_rows<T>(k, key, document.keys, place.keys, head_dim, scratch.k.data());
  const auto v_tile = padded_rows<T>(v, key, document.keys, place.keys, head_dim, scratch.v.data());
  transpose_rows<T>(k_tile, place.keys, head_dim, scratch.k_transposed.data());
  const Index dq_stride = whole_tiles(document.queries, kQueryTile);

  const Index first = document.first_query(key, call.options.causal) / kQueryTile * kQueryTile;
  const Index last_key = std::min(key + kKeyTile, document.keys) - 1;
  const Index end = document.end_query(last_key, call.options);
  for (place.query = first; place.query < end; place.query += kQueryTile) {
    place.queries = padded_size(std::min(kQueryTile, document.queries - place.query), kQueryTile);
    const auto q_tile =
        padded_rows<T>(q, place.query, document.queries, place.queries, head_dim, scratch.q.data());
    const auto dout_tile = padded_rows<T>(dout, place.query, document.queries, place.queries,
                                          head_dim, scratch.dout.data());
    const Index keys = place.keys;
    const Index queries = place.queries;
    matmul.run<T>({scratch.scores.data(), queries}, k_tile, q_tile, keys, queries, head_dim, true,
                  false);
    probabilities<T>(document, place, call.options, scratch);
    matmul.run<T>({scratch.dv + key * head_dim, head_dim}, {scratch.probabilities.data(), queries},
                  dout_tile, keys, head_dim, queries, false, true);
    matmul.run<T>({scratch.dprobabilities.data(), queries}, v_tile, dout_tile, keys, queries,
                  head_dim, true, false);
    score_gradients<T>(place, call.options, scratch);
    matmul.run<T>({scratch.dk + key * head_dim, head_dim}, {scratch.dscores.data(), queries},
                  q_tile, keys, head_dim, queries, false, true);
    matmul.run<T>({scratch.dq_transposed + place.query, dq_stride},
                  {scratch.k_transposed.data(), keys}, {scratch.dscores.data(), queries}, head_dim,
                  queries, keys, false, true);
  }
}

}  // namespace

template <typename T>
BackwardScratch<T>::BackwardScratch(Index head_dim, Index queries, Index keys, Acc* sums)
    : q(product(kQueryTile, head_dim)),
      dout(product(kQueryTile, head_dim)),
      k(product(kKeyTile, head_dim)),
      v(product(kKeyTile, head_dim)),
      k_transposed(product(kKeyTile, head_dim)),
      probabilities(product(kQueryTile, kKeyTile)),
      dscores(product(kQueryTile, kKeyTile)),
      scores(product(kQueryTile, kKeyTile)),
      dprobabilities(product(kQueryTile, kKeyTile)),
      lse(product(whole_tiles(queries, kQueryTile), 1)),
      delta(lse.size()),
      dq_transposed(sums),
      dk(dq_transposed + head_dim * whole_tiles(queries, kQueryTile)),
      dv(dk + head_dim * whole_tiles(keys, kKeyTile)) {}

template <typename T>
Index BackwardScratch<T>::elements(Index head_dim, Index queries, Index keys) {
  return head_dim * (whole_tiles(queries, kQueryTile) + 2 * whole_tiles(keys, kKeyTile));
}

template <typename T>
void attention_backward_group(const AttentionBackward& call, const Document& document,
                              Index kv_head, TileMatmul& matmul, BackwardScratch<T>& scratch) {
  using Acc = Compute<T>;
  const Index head_dim = call.head_dim();
  const Index key_elements = head_dim * whole_tiles(document.keys, kKeyTile);
  const Index dq_stride = whole_tiles(document.queries, kQueryTile);
  std::fill(scratch.dk, scratch.dk + key_elements, Acc(0));
  std::fill(scratch.dv, scratch.dv + key_elements, Acc(0));
  for (Index head = kv_head * call.group(); head < (kv_head + 1) * call.group(); ++head) {
    prepare_rows<T>(call, document, head, scratch);
    std::fill(scratch.dq_transposed, scratch.dq_transposed + head_dim * dq_stride, Acc(0));
    for (Index key = 0; key < document.keys; key += kKeyTile) {
      backward_keys<T>(call, document, head, key, matmul, scratch);
    }
    const HeadView<T> dq(call.dq, document.q_begin, head);
    for (Index i = 0; i < document.queries; ++i) {
      for (Index d = 0; d < head_dim; ++d) {
        dq.row(i)[d] = T(scratch.dq_transposed[d * dq_stride + i]);
      }
    }
  }
  const HeadView<T> dk(call.dk, document.k_begin, kv_head);
  const HeadView<T> dv(call.dv, document.k_begin, kv_head);
  for (Index i = 0; i < document.keys; ++i) {
    for (Index d = 0; d < head_dim; ++d) {
      dk.row(i)[d] = T(scratch.dk[i * head_dim + d]);
      dv.row(i)[d] = T(scratch.dv[i * head_dim + d]);
    }
  }
}

template struct BackwardScratch<float>;
template struct BackwardScratch<double>;
template struct BackwardScratch<base::BFloat16>;
template void attention_backward_group<float>(const AttentionBackward&, const Document&, Index,
                                              TileMatmul&, BackwardScratch<float>&);
template void attention_backward_group<double>(const AttentionBackward&, const Document&, Index,
                                               TileMatmul&, BackwardScratch<double>&);
template void attention_backward_group<base::BFloat16>(const AttentionBackward&, const Document&,
                                                       Index, TileMatmul&,
                                                       BackwardScratch<base::BFloat16>&);

}  // namespace longspan::backend::cpu
