#include "data/hf/decoder.h"

#include <fmt/format.h>

#include <charconv>

#include "data/hf/byte_level.h"
#include "longspan/base/error.h"

namespace longspan::data::hf {
namespace {

constexpr std::size_t kMostSteps = 64;
constexpr std::size_t kLongestContent = 64;
/// Of a token: steps that double it could else fill all memory.
constexpr std::size_t kLongestToken = std::size_t{1} << 20U;

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  std::size_t begin = 0;
  for (std::size_t at = text.find(from); at != text.npos; at = text.find(from, begin)) {
    result.append(text, begin, at - begin).append(to);
    begin = at + from.size();
  }
  return result.append(text, begin);
}

/// The value of a token spelled <0x41>; -1 for another spelling.
int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int value = -1;
  const auto end = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return end.ptr == token.data() + 5 ? value : -1;
}

}  // namespace

void Decoder::add_metaspace(const JsonNode& node) {
  node.allow_only(
      {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  const bool prefix =
      node.boolean("add_prefix_space", true) && node.string("prepend_scheme", "always") != "never";
  const std::string mark = node.string("replacement", "\xe2\x96\x81");
  if (mark.empty()) node.at("replacement").refuse("must be one character");
  if (replaced_.size() == kMostSteps) node.refuse(fmt::format("more than {} steps", kMostSteps));
  replaced_.emplace_back(mark, " ");
  if (prefix) prefix_spaces_ = 1;
}

void Decoder::add_strip(const JsonNode& node) {
  node.allow_only({"type", "content", "start", "stop"});
  if (!fused_ || node.at("content").string() != " " || node.at("stop").integer(0, 1 << 20) != 0) {
    node.refuse("a Strip is supported behind Fuse, of spaces and with \"stop\": 0");
  }
  prefix_spaces_ += static_cast<int>(node.at("start").integer(0, 1 << 20));
}

void Decoder::add(const JsonNode& node) {
  const std::string& type = node.type();
  const bool text_is_whole = fused_ && type != "Strip";
  if (byte_level_ || text_is_whole)
    node.refuse(fmt::format("{} is not supported here", shown(type)));
  if (type == "Sequence") {
    node.allow_only({"type", "decoders"});
    for (const JsonNode& step : node.at("decoders").elements()) add(step);
  } else if (type == "ByteLevel") {
    node.allow_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    byte_level_ = true;
  } else if (type == "Replace") {
    node.allow_only({"type", "pattern", "content"});
    node.at("pattern").allow_only({"String"});
    const std::string& from = node.at("pattern").at("String").string();
    if (from.empty()) node.at("pattern").refuse("must not be empty");
    const std::string& content = node.at("content").string();
    if (content.size() > kLongestContent || replaced_.size() == kMostSteps) {
      node.refuse(fmt::format("more than {} bytes, or {} steps, are not supported", kLongestContent,
                              kMostSteps));
    }
    replaced_.emplace_back(from, content);
  } else if (type == "ByteFallback") {
    node.allow_only({"type"});
    byte_fallback_ = true;
  } else if (type == "Fuse") {
    node.allow_only({"type"});
    fused_ = true;
  } else if (type == "Strip") {
    add_strip(node);
  } else if (type == "Metaspace") {
    add_metaspace(node);
  } else {
    node.refuse(
        fmt::format("the decoder {} is not supported; known are ByteLevel, Metaspace, Replace, "
                    "ByteFallback, Fuse, Strip, Sequence",
                    shown(type)));
  }
}

std::string Decoder::bytes_of(std::string_view token) const {
  if (byte_level_) return token_to_bytes(token).value_or(std::string(token));
  const int byte = byte_fallback_ ? fallback_byte(token) : -1;
  if (byte >= 0) return std::string(1, static_cast<char>(byte));
  std::string text(token);
  for (const auto& [from, to] : replaced_) {
    text = replace_all(text, from, to);
    if (text.size() > kLongestToken) {
      throw base::InputError(fmt::format(
          "cannot load the tokenizer: its decoder makes more than {} bytes of the token {}",
          kLongestToken, shown(token)));
    }
  }
  return text;
}

}  // namespace longspan::data::hf
