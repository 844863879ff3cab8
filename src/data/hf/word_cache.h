#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "longspan/data/tokenizer.h"

namespace longspan::data::hf {

/// The ids of words that one thread met before: text has few different ones. A fixed number of
/// places; a word takes the place of the one that was there.
class WordCache {
 public:
  WordCache() : slots_(kSlots) {}

  /// Whether a word is short enough to be kept.
  static bool takes(std::string_view word) { return word.size() <= kBytes && !word.empty(); }

  /// Adds the word's ids; false when it is not known.
  bool find(std::string_view word, std::vector<TokenId>& ids) const {
    const Slot& slot = slots_[place(word)];
    if (slot.bytes != word.size() || std::memcmp(slot.word, word.data(), word.size()) != 0) {
      return false;
    }
    ids.insert(ids.end(), slot.ids, slot.ids + slot.count);
    return true;
  }
  void keep(std::string_view word, const TokenId* ids, std::size_t count) {
    if (count > kIds) return;
    Slot& slot = slots_[place(word)];
    slot.bytes = static_cast<std::uint8_t>(word.size());
    slot.count = static_cast<std::uint8_t>(count);
    std::memcpy(slot.word, word.data(), word.size());
    std::copy(ids, ids + count, slot.ids);
  }

 private:
  static constexpr std::size_t kSlots = std::size_t{1} << 15U;
  static constexpr std::size_t kBytes = 30;
  static constexpr std::size_t kIds = 8;
  struct Slot {  // a cache line
    std::uint8_t bytes = 0;
    std::uint8_t count = 0;
    char word[kBytes] = {};
    TokenId ids[kIds] = {};
  };
  static std::size_t place(std::string_view word) {
    return XXH3_64bits(word.data(), word.size()) & (kSlots - 1);
  }

  std::vector<Slot> slots_;
};

}  // namespace longspan::data::hf
