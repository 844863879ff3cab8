#pragma once

#include <cstdint>
#include <queue>
#include <string>
#include <unordered_map>
#include <vector>

#include "longspan/data/tokenizer.h"

namespace longspan::data::hf {

/// The words of a corpus as tokens, and how often which two are neighbours in it: what training of
/// byte-pair encoding works on. Joining a pair touches only the words that have it.
class PairCounter {
 public:
  struct Pair {
    TokenId left = 0;
    TokenId right = 0;
  };

  /// A word of more than one token, and how often it is there. Words must differ.
  void add_word(std::vector<TokenId> tokens, std::int64_t count);
  /// The most frequent pair, of equally frequent ones that with the lower ids; false when no two
  /// tokens are neighbours any more.
  bool most_frequent(Pair& pair);
  /// Replaces the pair by one token in all words.
  void join(Pair pair, TokenId joined);

 private:
  struct Word {
    std::vector<TokenId> tokens;
    std::int64_t count = 0;
  };
  struct Place {
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;  ///< that have or had the pair, some more than once
  };
  struct Candidate {
    std::int64_t count;
    std::uint64_t pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  static std::uint64_t key(TokenId left, TokenId right) {
    return (static_cast<std::uint64_t>(left) << 32U) | static_cast<std::uint32_t>(right);
  }
  void count_pairs(std::uint32_t word, std::int64_t sign);

  std::vector<Word> words_;
  std::unordered_map<std::uint64_t, Place> places_;
  std::vector<std::uint64_t> changed_;         ///< pairs whose count rose since the last look
  std::priority_queue<Candidate> candidates_;  ///< counts at some time, never less than now
};

}  // namespace longspan::data::hf
