#include "data/hf/pair_counter.h"

#include <algorithm>

namespace longspan::data::hf {

void PairCounter::add_word(std::vector<TokenId> tokens, std::int64_t count) {
  words_.push_back({std::move(tokens), count});
  count_pairs(static_cast<std::uint32_t>(words_.size() - 1), 1);
}

void PairCounter::count_pairs(std::uint32_t word, std::int64_t sign) {
  const Word& it = words_[word];
  for (std::size_t at = 0; at + 1 < it.tokens.size(); ++at) {
    const std::uint64_t pair = key(it.tokens[at], it.tokens[at + 1]);
    Place& place = places_[pair];
    place.count += sign * it.count;
    if (sign < 0) continue;
    if (place.words.empty() || place.words.back() != word) place.words.push_back(word);
    changed_.push_back(pair);
  }
}

bool PairCounter::most_frequent(Pair& pair) {
  std::sort(changed_.begin(), changed_.end());
  changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
  for (const std::uint64_t it : changed_) candidates_.push({places_.at(it).count, it});
  changed_.clear();
  while (!candidates_.empty()) {
    const Candidate best = candidates_.top();
    candidates_.pop();
    const auto place = places_.find(best.pair);
    if (place == places_.end() || place->second.count == 0) continue;
    if (place->second.count < best.count) {  // fell since; a lower one may be ahead of it now
      candidates_.push({place->second.count, best.pair});
      continue;
    }
    pair = {static_cast<TokenId>(best.pair >> 32U), static_cast<TokenId>(best.pair & 0xffffffffU)};
    return true;
  }
  return false;
}

void PairCounter::join(Pair pair, TokenId joined) {
  const std::uint64_t it = key(pair.left, pair.right);
  std::vector<std::uint32_t> words = std::move(places_.at(it).words);
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  for (const std::uint32_t word : words) {
    std::vector<TokenId>& tokens = words_[word].tokens;
    count_pairs(word, -1);
    std::size_t kept = 0;
    for (std::size_t at = 0; at < tokens.size(); ++kept) {
      const bool joins =
          at + 1 < tokens.size() && tokens[at] == pair.left && tokens[at + 1] == pair.right;
      tokens[kept] = joins ? joined : tokens[at];
      at += joins ? 2 : 1;
    }
    tokens.resize(kept);
    count_pairs(word, 1);
  }
  places_.erase(it);
}

}  // namespace longspan::data::hf
