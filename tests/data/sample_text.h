#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "data/utf8.h"

namespace longspan::data {

/// Sentences of a small vocabulary with punctuation, numbers and newlines.
inline std::string sample_text(std::size_t bytes, std::uint32_t seed) {
  static const char* const kWords[] = {
      "the",  "light", "of",   "waters", "and",  "heaven",      "earth",
      "upon", "face",  "deep", "was",    "said", "caf\xc3\xa9", "\xe6\x97\xa5\xe6\x9c\xac",
      "unto", "12",    "LORD"};
  std::mt19937 random(seed);
  std::string text;
  while (text.size() < bytes) {
    for (unsigned word = 0; word < 4 + random() % 9; ++word) {
      if (word > 0) text += random() % 40 == 0 ? "  " : " ";
      text += kWords[random() % std::size(kWords)];
      if (random() % 9 == 0) text += ",";
    }
    text += random() % 5 == 0 ? ".\n\n" : ".\n";
  }
  return text;
}

/// Valid UTF-8 from all planes, with spaces and common letters among it.
inline std::string random_unicode(std::size_t characters, std::mt19937& random) {
  std::string text;
  for (std::size_t index = 0; index < characters; ++index) {
    char32_t code = " \n\tthe,\xc3"[random() % 7];
    if (random() % 3 == 0) code = random() % (random() % 2 == 0 ? 0x3000 : 0x110000);
    if (code >= 0xd800 && code < 0xe000) code = 0x2581;
    append_utf8(text, code);
  }
  return text;
}

}  // namespace longspan::data
