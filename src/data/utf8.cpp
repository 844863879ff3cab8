#include "data/utf8.h"

#include <cstring>

namespace longspan::data {

Character character_at(std::string_view text, std::size_t position) {
  const auto lead = static_cast<unsigned char>(text[position]);
  if (lead < 0x80) return {lead, 1};
  const Character invalid{kInvalidByte + lead, 1};
  std::size_t length = 0;
  char32_t code = 0;
  char32_t smallest = 0;
  if (lead >= 0xc2 && lead < 0xe0) {
    length = 2, code = lead & 0x1fU, smallest = 0x80;
  } else if (lead >= 0xe0 && lead < 0xf0) {
    length = 3, code = lead & 0x0fU, smallest = 0x800;
  } else if (lead >= 0xf0 && lead < 0xf5) {
    length = 4, code = lead & 0x07U, smallest = 0x10000;
  } else {
    return invalid;
  }
  if (text.size() - position < length) return invalid;
  for (std::size_t index = 1; index < length; ++index) {
    const auto byte = static_cast<unsigned char>(text[position + index]);
    if ((byte & 0xc0U) != 0x80) return invalid;
    code = (code << 6U) | (byte & 0x3fU);
  }
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  if (code < smallest || surrogate || code > 0x10ffff) return invalid;
  return {code, length};
}

void append_utf8(std::string& text, char32_t code) {
  const auto continuation = [&](unsigned shift) {
    text.push_back(static_cast<char>(0x80U | ((code >> shift) & 0x3fU)));
  };
  if (code < 0x80) {
    text.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    text.push_back(static_cast<char>(0xc0U | (code >> 6U)));
    continuation(0);
  } else if (code < 0x10000) {
    text.push_back(static_cast<char>(0xe0U | (code >> 12U)));
    continuation(6);
    continuation(0);
  } else {
    text.push_back(static_cast<char>(0xf0U | (code >> 18U)));
    continuation(12);
    continuation(6);
    continuation(0);
  }
}

std::size_t valid_end(std::string_view text, std::size_t begin) {
  std::size_t at = begin;
  while (at < text.size()) {
    std::uint64_t word = 0;
    if (text.size() - at >= sizeof(word)) {
      std::memcpy(&word, text.data() + at, sizeof(word));
      if ((word & 0x8080808080808080U) == 0) {
        at += sizeof(word);
        continue;
      }
    }
    const Character character = character_at(text, at);
    if (character.code >= kInvalidByte) return at;
    at += character.bytes;
  }
  return at;
}

}  // namespace longspan::data
