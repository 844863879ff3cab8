#include "train/sequence.h"

#include <algorithm>

#include "longspan/base/error.h"

namespace longspan::train {
namespace {

using data::TokenId;

/// Tokens that are run at once: enough to keep a device busy.
constexpr std::int64_t kPortion = 4096;

}  // namespace

Sequence::Sequence(model::Decoder& model, std::int64_t capacity, std::int64_t first)
    : model_(&model),
      capacity_(capacity),
      cache_(model.make_cache(std::clamp<std::int64_t>(first, 1, capacity))) {}

void Sequence::make_room(std::int64_t tokens) {
  if (tokens > capacity_) {
    throw base::InternalError("a sequence of at most " + std::to_string(capacity_) +
                              " tokens was to hold " + std::to_string(tokens));
  }
  if (tokens <= cache_.capacity()) return;
  model_->grow_cache(cache_, std::min(std::max(tokens, 2 * cache_.capacity()), capacity_));
}

void Sequence::append(const std::vector<TokenId>& tokens) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  make_room(length() + count);
  for (std::int64_t begin = 0; begin < count; begin += kPortion) {
    const std::vector<TokenId> portion(tokens.begin() + begin,
                                       tokens.begin() + std::min(begin + kPortion, count));
    logits_ = model_->next_logits(portion, cache_);
    tokens_.insert(tokens_.end(), portion.begin(), portion.end());
  }
}

std::int64_t Sequence::become(const std::vector<TokenId>& tokens) {
  const std::size_t most = std::min(tokens.size() - 1, tokens_.size());
  const auto end = tokens.begin() + static_cast<std::ptrdiff_t>(most);
  const auto common = std::mismatch(tokens.begin(), end, tokens_.begin()).first - tokens.begin();
  cache_.length = common;
  tokens_.resize(static_cast<std::size_t>(common));
  append({tokens.begin() + common, tokens.end()});
  return static_cast<std::int64_t>(tokens.size()) - common;
}

}  // namespace longspan::train
