#include "data/hf/byte_level.h"

#include <array>
#include <unordered_map>

#include "data/utf8.h"

namespace longspan::data::hf {
namespace {

bool is_printable(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

struct Spelling {
  Spelling() {
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const char32_t code = is_printable(byte) ? byte : next++;
      bytes.emplace(code, static_cast<char>(byte));
      append_utf8(characters[byte], code);
    }
  }
  std::array<std::string, 256> characters;
  std::unordered_map<char32_t, char> bytes;
};

const Spelling& spelling() {
  static const Spelling kSpelling;
  return kSpelling;
}

}  // namespace

std::string byte_to_character(unsigned char byte) { return spelling().characters[byte]; }

std::optional<std::string> token_to_bytes(std::string_view token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const Character character = character_at(token, at);
    const auto found = spelling().bytes.find(character.code);
    if (found == spelling().bytes.end()) return std::nullopt;
    bytes.push_back(found->second);
    at += character.bytes;
  }
  return bytes;
}

}  // namespace longspan::data::hf
