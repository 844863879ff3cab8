#pragma once

#include <string>
#include <vector>

#include "longspan/data/tokenizer.h"

namespace longspan::train {

/// Text with U+FFFD in the place of every byte that is no UTF-8.
std::string as_utf8(const std::string& text);

/// The text of tokens that come one by one, as it becomes certain: whole UTF-8 characters, and
/// nothing that may yet turn out to be the beginning of a stop text.
class TextStream {
 public:
  /// Continues `before`, whose last tokens a tokenizer may need to know how the first one begins.
  TextStream(const data::Tokenizer& tokenizer, const std::vector<data::TokenId>& before,
             std::vector<std::string> stops);

  /// Adds a token; returns the text that is certain now and was not before, often none.
  std::string add(data::TokenId id);
  /// What was held back, when no more tokens come.
  std::string finish();
  /// Whether a stop text has come: what add returned ended before it, and no more may be added.
  bool stopped() const { return stopped_; }

 private:
  std::string decoded(bool all);
  std::string certain(std::string fresh, bool all);

  const data::Tokenizer* tokenizer_;
  std::vector<std::string> stops_;
  std::vector<data::TokenId> window_;  ///< tokens that are decoded again
  std::size_t told_ = 0;               ///< of these, the first ones, whose text has gone out
  std::string held_;                   ///< decoded text that may begin a stop text
  bool stopped_ = false;
};

}  // namespace longspan::train
