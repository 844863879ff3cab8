#include "train/text_stream.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace longspan::train {
namespace {

using data::TokenId;

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
/// Tokens that a character may be spread over; after so many what is none never becomes one.
constexpr std::size_t kMostHeld = 8;
/// Tokens before the first one that are decoded with it.
constexpr std::size_t kContext = 4;

/// Bytes of the UTF-8 character that begins so; 0: none does.
std::size_t length_of(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return 2;
  if (first >= 0xe0 && first < 0xf0) return 3;
  if (first >= 0xf0 && first < 0xf5) return 4;
  return 0;
}

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xc0U) == 0x80U; }

/// Overlong forms, surrogates and what is beyond U+10FFFF begin like others.
bool is_legal(unsigned char first, unsigned char second) {
  switch (first) {
    case 0xe0:
      return second >= 0xa0;
    case 0xed:
      return second < 0xa0;
    case 0xf0:
      return second >= 0x90;
    case 0xf4:
      return second < 0x90;
    default:
      return true;
  }
}

/// Bytes of the character at `at`; 0 for a byte that is none; more than there are for one that the
/// text's end cuts off.
std::size_t character_bytes(std::string_view text, std::size_t at) {
  const std::size_t bytes = length_of(static_cast<unsigned char>(text[at]));
  for (std::size_t i = 1; i < bytes; ++i) {
    if (at + i == text.size()) return bytes;
    if (!continues(text[at + i])) return 0;
    if (i == 1 &&
        !is_legal(static_cast<unsigned char>(text[at]), static_cast<unsigned char>(text[at + 1]))) {
      return 0;
    }
  }
  return bytes;
}

/// Whether more tokens may change how the text ends: a cut-off character, or what a tokenizer puts
/// into the place of one.
bool ends_open(std::string_view text) {
  if (text.ends_with(kReplacement)) return true;
  const std::size_t first = text.size() - std::min<std::size_t>(text.size(), 3);
  for (std::size_t at = first; at < text.size(); ++at) {
    if (character_bytes(text, at) > text.size() - at) return true;
  }
  return false;
}

/// The longest end of the text that is a beginning of a stop text.
std::size_t begun_stop(std::string_view text, const std::vector<std::string>& stops) {
  std::size_t longest = 0;
  for (const std::string& stop : stops) {
    for (std::size_t size = std::min(text.size(), stop.size() - 1); size > longest; --size) {
      if (text.ends_with(std::string_view(stop).substr(0, size))) {
        longest = size;
        break;
      }
    }
  }
  return longest;
}

}  // namespace

std::string as_utf8(const std::string& text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = character_bytes(text, at);
    if (bytes == 0 || at + bytes > text.size()) {
      result += kReplacement;
      ++at;
      continue;
    }
    result.append(text, at, bytes);
    at += bytes;
  }
  return result;
}

TextStream::TextStream(const data::Tokenizer& tokenizer, const std::vector<TokenId>& before,
                       std::vector<std::string> stops)
    : tokenizer_(&tokenizer),
      stops_(std::move(stops)),
      window_(before.end() - static_cast<std::ptrdiff_t>(std::min(before.size(), kContext)),
              before.end()),
      told_(window_.size()) {}

std::string TextStream::add(TokenId id) {
  window_.push_back(id);
  return certain(decoded(/*all=*/false), /*all=*/false);
}

std::string TextStream::finish() {
  if (stopped_) return {};
  return certain(decoded(/*all=*/true), /*all=*/true);
}

/// The text of the tokens not told yet, unless it ends within a character.
std::string TextStream::decoded(bool all) {
  const auto told = static_cast<std::ptrdiff_t>(told_);
  const std::string whole = tokenizer_->decode(window_);
  const std::size_t known = tokenizer_->decode({window_.begin(), window_.begin() + told}).size();
  std::string fresh = whole.substr(std::min(known, whole.size()));
  const bool waits = !all && ends_open(fresh) && window_.size() - told_ < kMostHeld;
  if (waits) return {};
  const std::size_t old = window_.size() - std::min(window_.size(), kContext);
  window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(old));
  told_ = window_.size();
  return as_utf8(fresh);
}

std::string TextStream::certain(std::string fresh, bool all) {
  std::string text = std::exchange(held_, {}) + std::move(fresh);
  std::size_t first_stop = std::string::npos;
  for (const std::string& stop : stops_) first_stop = std::min(first_stop, text.find(stop));
  if (first_stop != std::string::npos) {
    stopped_ = true;
    text.resize(first_stop);
    return text;
  }
  const std::size_t kept = all ? 0 : begun_stop(text, stops_);
  held_ = text.substr(text.size() - kept);
  text.resize(text.size() - kept);
  return text;
}

}  // namespace longspan::train
