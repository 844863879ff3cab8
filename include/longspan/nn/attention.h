#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "longspan/nn/linear.h"
#include "longspan/nn/rms_norm.h"

namespace longspan::nn {

class Ulysses;

/// Sizes of grouped-query attention: query head h reads KV head h / (heads / kv_heads).
struct AttentionSizes {
  backend::Index hidden = 0;
  backend::Index heads = 0;
  backend::Index kv_heads = 0;
  backend::Index head_dim = 0;
};

/// How attention's projections are named and stored, which RMS norms go with them, and whether q
/// and k are rotated.
struct AttentionProjections {
  std::vector<std::string> qkv;  ///< of q, k and v, or one of all three side by side
  std::string output;
  LinearOptions qkv_options;
  LinearOptions output_options;
  bool is_rotary = true;
  /// Of each head of q and of k, before they are rotated (Henry et al. 2020); both or, empty, none.
  std::string query_norm = {};
  std::string key_norm = {};
  std::string output_norm = {};  ///< of what the output projection gives; empty: none
  backend::RmsNormOptions norm_options = {};
};

/// How the attention of one layer looks at its keys.
struct AttentionKind {
  double scale = 0.0;          ///< multiplies q.k; 0: 1/sqrt(head_dim)
  double soft_cap = 0.0;       ///< of scores: see backend::AttentionOptions
  backend::Index window = 0;   ///< keys that a query sees at most; 0: all before it
  std::size_t rope_table = 0;  ///< which of the pass's turns q and k
  bool causal = true;          ///< whether a query sees no key behind its own place
};

/// Where a generating sequence keeps the keys (rotated) and values of one layer, each
/// [capacity, kv_heads, head_dim], and how many tokens they hold already.
struct AttentionCache {
  backend::Tensor keys;
  backend::Tensor values;
  backend::Index length = 0;
};

/// What a forward of Attention leaves for its backward.
/// Where tokens are exchanged for heads, kAll keeps qkv after the exchange and the output before
/// and after its own, so that the backward sends nothing but gradients; kOutput keeps the output of
/// this rank's tokens alone, which goes with qkv when `again` exchanges them.
enum class AttentionKeep : std::uint8_t {
  kAll,      ///< qkv (rotated), the attention's output, its log-sum-exp, and inputs of norms
  kOutput,   ///< the output and the log-sum-exp: `again` makes qkv anew and skips the attention
  kNothing,  ///< nothing: `again` does everything once more
};

/// How what is left waits: q, k and v (and what norms of heads went over), the attention's output,
/// and what a norm of the projected output went over.
struct AttentionSaving {
  SaveParts qkv;
  SaveParts output;
  SaveParts projected;
};

/// Self-attention, causal or not, within the documents of the pass: q, k and v by one product,
/// normalised and rotated if so told (Su et al. 2021), attended, projected, normalised if so told.
/// Where ranks share the tokens of the pass, its Ulysses ranks exchange tokens for heads before and
/// after (Jacobs et al. 2023), and the places of its ring pass keys and values around (Liu et al.
/// 2023) or, with a window, give each other those that it reaches.
///
/// The backward comes in two halves, because x (a norm's output) is needed by the second alone and
/// need not be made before, unless the first makes rows of q, k and v again.
class Attention {
 public:
  /// `parameters` must outlive the layer.
  Attention(ParameterSet& parameters, const AttentionProjections& projections,
            const AttentionSizes& sizes, const AttentionKind& kind = {});

  /// x, out [tokens, hidden]; out may be x, or undefined where what the backward needs is wanted
  /// alone and no norm follows: then nothing is projected. With a cache the pass is one document
  /// that continues the cached tokens: its keys and values are appended (the caller then counts
  /// them in).
  void forward(const backend::Tensor& out, const backend::Tensor& x, Pass& pass,
               const AttentionCache* cache = nullptr, AttentionKeep keep = AttentionKeep::kAll,
               const AttentionSaving& saving = {}) const;
  /// After a forward that kept less than all: writes the same out once more, and leaves on the pass
  /// what the backward needs.
  void again(const backend::Tensor& out, const backend::Tensor& x, Pass& pass,
             AttentionKeep kept) const;

  /// From dy [tokens, hidden], to the gradient of qkv, which it returns. Rows of qkv that the
  /// forward's policy did not keep are made again of x, which is read for that alone; where tokens
  /// are exchanged for heads there are none: that throws InternalError.
  backend::Tensor backward_to_qkv(const backend::Tensor& dy, const backend::Tensor& x,
                                  Pass& pass) const;
  /// From there to dx, which may be x.
  void backward_to_input(const backend::Tensor& dx, const backend::Tensor& dqkv,
                         const backend::Tensor& x, Pass& pass) const;
  /// Whether it reads x at all.
  bool needs_input() const { return qkv_.needs_input(); }

 private:
  /// What went into norms, with their statistics; undefined where there is none.
  struct Normed {
    backend::Tensor input;
    backend::Tensor statistics;
  };
  /// What the backward takes off the pass; `attended` is of this rank's tokens.
  struct Slots {
    backend::Tensor qkv;
    backend::Tensor shared;  // the output as attention gave it: `attended`, unless exchanged
    backend::Tensor lse;
    backend::Tensor attended;
    Normed heads;                       // q and k as projected
    Normed output;                      // what the output projection gave
    std::vector<shard::Range> missing;  // rows of qkv and of heads' input that are made again
  };
  /// q and k of rows of qkv, which begin with the pass's token `begin`, in place, if they are
  /// rotated at all.
  void rotate(const backend::Tensor& rows, backend::Index begin, Pass& pass, bool inverse) const;
  /// Of q and k of rows of qkv, which are those from `begin` on of as many tokens as `heads` has,
  /// in place: `heads` then holds what they were.
  void normalise_heads(const backend::Tensor& rows, const Normed& heads, backend::Index begin,
                       Pass& pass) const;
  Normed normalise_heads(const backend::Tensor& qkv, bool keeps, Pass& pass) const;
  void project_again(const Slots& slots, const backend::Tensor& x, Pass& pass) const;
  void normalise_heads_backward(const backend::Tensor& dqkv, const Normed& heads, Pass& pass) const;
  Normed project(const backend::Tensor& out, const backend::Tensor& attended, bool keeps,
                 Pass& pass) const;
  void attend(const Slots& slots, const Ulysses& ulysses, Pass& pass,
              const AttentionCache* cache) const;
  backend::Tensor attend_backward(const backend::Tensor& dshared, const Slots& slots,
                                  const Ulysses& ulysses, Pass& pass) const;
  void push(Slots slots, AttentionKeep keep, const AttentionSaving& saving, const Ulysses& ulysses,
            Pass& pass) const;
  Slots pop(const Ulysses& ulysses, Pass& pass) const;

  /// The pass's; undefined when nothing is rotated.
  backend::Tensor rope_table(const Pass& pass) const;

  AttentionSizes sizes_;
  bool is_rotary_;
  std::size_t rope_table_;
  backend::AttentionOptions options_;
  Linear qkv_;
  Linear output_;
  std::unique_ptr<RmsNorm> query_norm_;  // null where there is none
  std::unique_ptr<RmsNorm> key_norm_;
  std::unique_ptr<RmsNorm> output_norm_;
};

}  // namespace longspan::nn
