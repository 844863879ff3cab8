#pragma once

#include <cstddef>

#include "longspan/backend/tensor.h"

namespace longspan::nn {

/// Consecutive ranges that cover [0, tokens) once, equal in size but for one token. None when
/// there are no tokens.
struct Ranges {
  backend::Index tokens = 0;
  backend::Index count = 0;

  backend::Index begin(backend::Index range) const { return tokens * range / count; }
  backend::Index end(backend::Index range) const { return begin(range + 1); }
  /// Tokens of the longest range: what buffers are made for.
  backend::Index longest() const { return count == 0 ? 0 : (tokens + count - 1) / count; }
};

/// How token-wise work is cut into ranges of tokens, one worked on after another ("mini-sequences",
/// Luo et al. 2024, "Mini-Sequence Transformer"): by a budget of bytes for what a range needs at
/// once, so that its peak does not grow with the sequence, or into a fixed number of ranges, which
/// does. Any length and any number are legal; no token is dropped.
class MiniSequence {
 public:
  /// As many tokens a range as `bytes` hold, and at least `least_tokens`.
  static MiniSequence budget(std::size_t bytes, backend::Index least_tokens = 1);
  /// This many ranges (at least 1), or one a token where there are fewer tokens.
  static MiniSequence count(backend::Index ranges);

  /// `bytes_per_token` is what the work needs for each token of a range while it is worked on.
  Ranges split(backend::Index tokens, std::size_t bytes_per_token) const;

 private:
  MiniSequence() = default;

  std::size_t bytes_ = 0;  // 0: a fixed number of ranges
  backend::Index least_tokens_ = 1;
  backend::Index ranges_ = 1;
};

}  // namespace longspan::nn
