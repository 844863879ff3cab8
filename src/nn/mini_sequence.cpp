#include "longspan/nn/mini_sequence.h"

#include <algorithm>

#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Index;

MiniSequence MiniSequence::budget(std::size_t bytes, Index least_tokens) {
  if (bytes == 0 || least_tokens < 1) throw base::InternalError("MiniSequence: an empty budget");
  MiniSequence result;
  result.bytes_ = bytes;
  result.least_tokens_ = least_tokens;
  return result;
}

MiniSequence MiniSequence::count(Index ranges) {
  if (ranges < 1) throw base::InternalError("MiniSequence: fewer than one range");
  MiniSequence result;
  result.ranges_ = ranges;
  return result;
}

Ranges MiniSequence::split(Index tokens, std::size_t bytes_per_token) const {
  if (tokens == 0) return {};
  if (bytes_ == 0) return {tokens, std::min(ranges_, tokens)};
  const Index most = std::max(static_cast<Index>(bytes_ / bytes_per_token), least_tokens_);
  return {tokens, (tokens + most - 1) / most};
}

}  // namespace longspan::nn
