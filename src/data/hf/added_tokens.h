#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "longspan/data/tokenizer.h"

namespace longspan::data::hf {

/// A token that is found in a text as it is, before the model sees it.
struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;  ///< not within or beside a word
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< and behind it
  bool normalized = false;   ///< is looked for in the normalised text
  bool special = false;      ///< a control token: left out of decoded text
};

/// Finds tokens in a text: the leftmost, of these the longest.
class TokenFinder {
 public:
  TokenFinder() = default;
  /// `patterns[i]`: what is looked for instead of the content of `tokens[i]`. Not empty.
  TokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns);

  /// Of special tokens that are looked for as they are, by id.
  static TokenFinder of_contents(const std::vector<std::pair<TokenId, std::string>>& contents);

  bool empty() const { return tokens_.empty(); }

  /// A stretch of the text that is a token, or lies between tokens (null).
  struct Section {
    std::string_view text;
    const AddedToken* token = nullptr;
  };
  /// The text in sections, none of them empty. Without `with_special`, special tokens stay text.
  std::vector<Section> sections(std::string_view text, bool with_special) const;

  /// Ids of a text whose tokens become theirs; `encode` gives those of what lies between, and is
  /// told whether it begins the text.
  using EncodePart = std::function<std::vector<TokenId>(std::string_view part, bool first)>;
  std::vector<TokenId> encode(std::string_view text, const EncodePart& encode) const;

 private:
  struct Entry {
    std::string pattern;
    std::size_t token;
  };
  const Entry* longest_at(std::string_view text, std::size_t at) const;

  std::vector<AddedToken> tokens_;
  std::vector<Entry> entries_;                                 ///< sorted by pattern
  std::array<std::pair<std::size_t, std::size_t>, 256> of_{};  ///< entries by their first byte
};

}  // namespace longspan::data::hf
