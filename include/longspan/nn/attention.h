#pragma once

#include <cstdint>
#include <string>

#include "longspan/nn/linear.h"

namespace longspan::nn {

/// Sizes of grouped-query attention: query head h reads KV head h / (heads / kv_heads).
struct AttentionSizes {
  backend::Index hidden = 0;
  backend::Index heads = 0;
  backend::Index kv_heads = 0;
  backend::Index head_dim = 0;
};

/// Where a generating sequence keeps the keys (rotated) and values of one layer, each
/// [capacity, kv_heads, head_dim], and how many tokens they hold already.
struct AttentionCache {
  backend::Tensor keys;
  backend::Tensor values;
  backend::Index length = 0;
};

/// What a forward of Attention leaves for its backward.
enum class AttentionKeep : std::uint8_t {
  kAll,      ///< qkv (rotated), the attention's output and its log-sum-exp
  kOutput,   ///< the output and the log-sum-exp: `again` makes qkv anew and skips the attention
  kNothing,  ///< nothing: `again` does everything once more
};

/// Causal self-attention within the documents of the pass, with rotary positions: q, k and v by one
/// matrix, rotated in place, attended, projected.
///
/// The backward comes in two halves, because x (a norm's output) is needed by the second alone and
/// need not be made before.
class Attention {
 public:
  /// Declares `prefix`q_proj.weight, k_proj.weight, v_proj.weight and o_proj.weight.
  Attention(ParameterSet& parameters, const std::string& prefix, const AttentionSizes& sizes);

  /// x, out [tokens, hidden]; out may be x. With a cache the pass is one document that continues
  /// the cached tokens: its keys and values are appended (the caller then counts them in).
  void forward(const backend::Tensor& out, const backend::Tensor& x, Pass& pass,
               const AttentionCache* cache = nullptr,
               AttentionKeep keep = AttentionKeep::kAll) const;
  /// After a forward that kept less than all: writes the same out once more, and leaves on the pass
  /// what the backward needs.
  void again(const backend::Tensor& out, const backend::Tensor& x, Pass& pass,
             AttentionKeep kept) const;

  /// From dy [tokens, hidden], to the gradient of qkv, which it returns.
  backend::Tensor backward_to_qkv(const backend::Tensor& dy, Pass& pass) const;
  /// From there to dx, which may be x.
  void backward_to_input(const backend::Tensor& dx, const backend::Tensor& dqkv,
                         const backend::Tensor& x, Pass& pass) const;

 private:
  /// Views of a [tokens, (heads + 2 kv_heads) * head_dim] buffer, each [tokens, heads, head_dim].
  struct Heads {
    backend::Tensor q;
    backend::Tensor k;
    backend::Tensor v;
  };
  Heads split(const backend::Tensor& qkv) const;
  /// qkv = x W^T, with q and k rotated.
  void project(const backend::Tensor& qkv, const backend::Tensor& x, Pass& pass) const;
  void attend(const backend::Tensor& out, const backend::Tensor& lse, const Heads& in, Pass& pass,
              const AttentionCache* cache) const;

  AttentionSizes sizes_;
  backend::AttentionOptions options_;
  Linear qkv_;
  Linear output_;
};

}  // namespace longspan::nn
