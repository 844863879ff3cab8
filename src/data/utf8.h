#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace longspan::data {

/// One character of a text of arbitrary bytes.
struct Character {
  char32_t code = 0;      ///< the code point; of an invalid byte: kInvalidByte + its value
  std::size_t bytes = 1;  ///< its length in the text
};

/// Above every code point, so that invalid bytes never compare equal to a character.
inline constexpr char32_t kInvalidByte = 0x200000;

/// The character at `position` (< text.size()). Strict UTF-8: overlong forms, surrogates, values
/// above U+10FFFF and cut-off sequences count as single invalid bytes.
Character character_at(std::string_view text, std::size_t position);

/// Adds a code point (at most U+10FFFF) to a text.
void append_utf8(std::string& text, char32_t code);

/// Where valid UTF-8, from `begin` on, ends: at the first byte that is none, or the text's end.
std::size_t valid_end(std::string_view text, std::size_t begin);

}  // namespace longspan::data
