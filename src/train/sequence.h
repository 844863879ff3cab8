#pragma once

#include <cstdint>
#include <vector>

#include "longspan/data/tokenizer.h"
#include "longspan/model/decoder.h"

namespace longspan::train {

/// One text while it is generated: its tokens, whose keys and values are in a cache.
class Sequence {
 public:
  /// At most `capacity` tokens, for which the cache grows as they come, by doubling, from room for
  /// `first` of them. The model must outlive it.
  Sequence(model::Decoder& model, std::int64_t capacity, std::int64_t first);

  std::int64_t capacity() const { return capacity_; }
  std::int64_t room() const { return capacity_ - length(); }
  std::int64_t length() const { return static_cast<std::int64_t>(tokens_.size()); }
  const std::vector<data::TokenId>& tokens() const { return tokens_; }
  /// Of the token that follows.
  const std::vector<float>& logits() const { return logits_; }

  /// Adds tokens, of which there must be some, in portions: what they need beside the cache does
  /// not grow with their number. Throws InternalError beyond the capacity, and OutOfMemoryError.
  void append(const std::vector<data::TokenId>& tokens);
  /// Makes the text `tokens`, of which there must be some: what they have in common with the text
  /// so far, but for the last token, is not run again. Returns how many tokens were run.
  std::int64_t become(const std::vector<data::TokenId>& tokens);

 private:
  void make_room(std::int64_t tokens);

  model::Decoder* model_;
  std::int64_t capacity_;
  model::KvCache cache_;
  std::vector<data::TokenId> tokens_;
  std::vector<float> logits_;
};

}  // namespace longspan::train
