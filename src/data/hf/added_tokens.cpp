#include "data/hf/added_tokens.h"

#include <utf8proc.h>

#include <algorithm>

#include "data/utf8.h"

namespace longspan::data::hf {
namespace {

bool is_white_space(char32_t code) {
  return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xa0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 ||
         code == 0x202f || code == 0x205f || code == 0x3000;
}

/// A letter, mark, decimal digit or connector, which is nearly what the reference's `\w` takes:
/// letter-like symbols, such as circled letters, are not among them.
bool is_word(char32_t code) {
  if (code >= kInvalidByte) return false;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return code == 0x200c || code == 0x200d;
  }
}

/// The begin of the last character of a text that is not empty.
std::size_t last_character(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0U) == 0x80) --at;
  return at;
}

/// Whether no word goes up to `begin`, nor from `end` on.
bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  const bool before =
      begin > 0 && is_word(character_at(text, last_character(text.substr(0, begin))).code);
  return !before && (end == text.size() || !is_word(character_at(text, end).code));
}

std::size_t spaces_begin(std::string_view text, std::size_t end) {
  while (end > 0) {
    const std::size_t at = last_character(text.substr(0, end));
    if (!is_white_space(character_at(text, at).code)) break;
    end = at;
  }
  return end;
}

std::size_t spaces_end(std::string_view text, std::size_t begin) {
  while (begin < text.size()) {
    const Character character = character_at(text, begin);
    if (!is_white_space(character.code)) break;
    begin += character.bytes;
  }
  return begin;
}

unsigned char byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

}  // namespace

TokenFinder::TokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns)
    : tokens_(std::move(tokens)) {
  for (std::size_t token = 0; token < tokens_.size(); ++token) {
    entries_.push_back({patterns[token], token});
  }
  std::stable_sort(entries_.begin(), entries_.end(),
                   [](const Entry& a, const Entry& b) { return a.pattern < b.pattern; });
  for (std::size_t index = 0; index < entries_.size(); ++index) {
    auto& [begin, end] = of_[byte_at(entries_[index].pattern, 0)];
    if (begin == end) begin = index;
    end = index + 1;
  }
}

TokenFinder TokenFinder::of_contents(const std::vector<std::pair<TokenId, std::string>>& contents) {
  std::vector<AddedToken> tokens;
  std::vector<std::string> patterns;
  for (const auto& [id, content] : contents) {
    AddedToken& token = tokens.emplace_back();
    token.id = id;
    token.content = content;
    token.special = true;
    patterns.push_back(content);
  }
  return {std::move(tokens), patterns};
}

std::vector<TokenId> TokenFinder::encode(std::string_view text, const EncodePart& encode) const {
  std::vector<TokenId> ids;
  for (const Section& section : sections(text, /*with_special=*/true)) {
    if (section.token != nullptr) {
      ids.push_back(section.token->id);
      continue;
    }
    const std::vector<TokenId> part = encode(section.text, section.text.data() == text.data());
    ids.insert(ids.end(), part.begin(), part.end());
  }
  return ids;
}

const TokenFinder::Entry* TokenFinder::longest_at(std::string_view text, std::size_t at) const {
  auto [begin, end] = of_[byte_at(text, at)];
  const Entry* longest = nullptr;
  // Of sorted patterns, those that begin as the text does lie together, the shortest in front.
  for (std::size_t length = 1; begin < end; ++length) {
    if (entries_[begin].pattern.size() == length) longest = &entries_[begin];
    while (begin < end && entries_[begin].pattern.size() == length) ++begin;
    if (at + length == text.size() || begin == end) break;
    const auto first = entries_.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = entries_.begin() + static_cast<std::ptrdiff_t>(end);
    const unsigned char byte = byte_at(text, at + length);
    begin = static_cast<std::size_t>(
        std::partition_point(first, last,
                             [&](const Entry& e) { return byte_at(e.pattern, length) < byte; }) -
        entries_.begin());
    end = static_cast<std::size_t>(
        std::partition_point(first, last,
                             [&](const Entry& e) { return byte_at(e.pattern, length) <= byte; }) -
        entries_.begin());
  }
  return longest;
}

std::vector<TokenFinder::Section> TokenFinder::sections(std::string_view text,
                                                        bool with_special) const {
  std::vector<Section> found;
  std::size_t done = 0;
  for (std::size_t at = 0; !empty() && at < text.size();) {
    const auto [first, last] = of_[byte_at(text, at)];
    const Entry* const entry = first == last ? nullptr : longest_at(text, at);
    if (entry == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + entry->pattern.size();
    at = end;
    const AddedToken& token = tokens_[entry->token];
    if (token.special && !with_special) continue;
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    // White space that the token before has taken is not taken again.
    if (token.lstrip) begin = std::max(spaces_begin(text, begin), done);
    if (token.rstrip) end = spaces_end(text, end);
    if (done < begin) found.push_back({text.substr(done, begin - done), nullptr});
    found.push_back({text.substr(begin, end - begin), &token});
    done = end;
  }
  if (done < text.size()) found.push_back({text.substr(done), nullptr});
  return found;
}

}  // namespace longspan::data::hf
