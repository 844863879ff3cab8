#pragma once

#include <string>
#include <string_view>

namespace longspan::data {

/// What a sentencepiece model file says about itself and its library does not tell.
struct SentencePieceSettings {
  enum class Algorithm { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };

  Algorithm algorithm = Algorithm::kUnigram;
  bool whitespace_suffix = false;        ///< the mark of a space ends a piece, not begins it
  bool has_charsmap = false;             ///< rewrites characters (NFKC and the like)
  bool add_dummy_prefix = true;          ///< a space is put before the text
  bool remove_extra_whitespaces = true;  ///< runs of spaces become one
  bool escape_whitespaces = true;        ///< spaces are U+2581 in pieces

  /// The text reaches the pieces as it is, but for a space before it.
  bool keeps_text() const { return !has_charsmap && !remove_extra_whitespaces; }
};

/// Reads them from a serialized model (a protocol buffer). Throws InputError, without naming the
/// file, when it is not one.
SentencePieceSettings read_sentencepiece_settings(std::string_view model);

/// The model with its setting add_dummy_prefix replaced.
std::string with_dummy_prefix(std::string_view model, bool add);

}  // namespace longspan::data
