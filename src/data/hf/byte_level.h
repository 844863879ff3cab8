#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace longspan::data::hf {

// The spelling of bytes in the vocabularies of byte-level BPE, which is GPT-2's: a byte that is a
// printable character of Latin-1 is that character, the 68 others are U+0100 and on, in order.

/// The character, in UTF-8, that stands for a byte.
std::string byte_to_character(unsigned char byte);

/// The bytes that a token of such a vocabulary stands for; none when it has other characters.
std::optional<std::string> token_to_bytes(std::string_view token);

}  // namespace longspan::data::hf
