#include "longspan/base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::base {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kSnippetBytes = 20;

/// "file:line:column" of a byte of the text.
std::string place(const std::string& file, std::string_view text, std::size_t at) {
  const std::string_view before = text.substr(0, std::min(at, text.size()));
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const std::size_t newline = before.rfind('\n');
  const std::string_view line = before.substr(newline == std::string_view::npos ? 0 : newline + 1);
  const auto characters = std::count_if(line.begin(), line.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;  // not a UTF-8 continuation
  });
  return fmt::format("{}:{}:{}", file, lines + 1, characters + 1);
}

/// The text around an error as it may be shown: one line, printable ASCII, short.
std::string snippet(std::string_view text, std::size_t at) {
  std::string shown;
  for (std::size_t i = at; i < text.size() && shown.size() < kSnippetBytes; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20U || byte >= 0x7FU) break;
    shown.push_back(text[i]);
  }
  return shown;
}

/// Walks the text and leaves behind how far the parser has read: the SAX interface does not say.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** reached) : at_(at), reached_(reached) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *reached_ = ++at_;
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** reached_;
};

/// Builds the value from the parser's events and refuses what the parser lets pass.
class TreeBuilder : public nlohmann::json_sax<Json> {
 public:
  TreeBuilder(std::string_view text, const std::string& file)
      : text_(text), file_(file), reached_(text.data()) {}

  Json parse() {
    const char* const end = text_.data() + text_.size();
    Json::sax_parse(CountingIterator(text_.data(), &reached_), CountingIterator(end, &reached_),
                    this);
    return std::move(root_);
  }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto [slot, is_new] = open_.back()->get_ref<Json::object_t&>().emplace(name, nullptr);
    if (!is_new) {
      throw InputError(fmt::format("{}: the key \"{}\" is there twice in one object; keep one",
                                   place(file_, text_, start_of_string()),
                                   snippet(name, 0) + (name.size() > kSnippetBytes ? "…" : "")));
    }
    slot_ = &slot->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& error) override;

 private:
  Json* put(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *slot_ = std::move(value);
    return slot_;
  }
  bool add(Json value) {
    put(std::move(value));
    return true;
  }
  bool open(Json value) {
    if (open_.size() == kMaxJsonDepth) {
      throw InputError(fmt::format("{}: more than {} brackets are open here, the most allowed",
                                   place(file_, text_, consumed() - 1), kMaxJsonDepth));
    }
    open_.push_back(put(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  /// Where the token stands that `reason` is about.
  std::size_t place_of_error(std::size_t position, std::size_t token_size,
                             const std::string& reason) const;
  std::size_t consumed() const { return static_cast<std::size_t>(reached_ - text_.data()); }
  /// Of the string whose closing quote was just read: back to the quote that is not escaped.
  std::size_t start_of_string() const {
    std::size_t at = consumed() - 1;
    while (at > 0) {
      --at;
      if (text_[at] != '"') continue;
      std::size_t slashes = 0;
      while (slashes < at && text_[at - 1 - slashes] == '\\') ++slashes;
      if (slashes % 2 == 0) break;
    }
    return at;
  }

  std::string_view text_;
  const std::string& file_;
  const char* reached_;
  Json root_;
  Json* slot_ = nullptr;     // where the value of the last key goes
  std::vector<Json*> open_;  // objects and arrays not yet closed
};

/// What the library says, without its code, its own position and the token, which may be huge.
std::string reason_of(const std::string& what, std::size_t token_size) {
  static constexpr std::string_view kLastRead = "; last read: '";
  const std::size_t dash = what.find("- ");
  std::string reason = dash == std::string::npos ? what : what.substr(dash + 2);
  const std::size_t token = reason.find(kLastRead);
  if (token != std::string::npos) reason.erase(token, kLastRead.size() + token_size + 1);
  return reason;
}

std::string hint_of(std::string_view text, std::size_t at) {
  if (at >= text.size()) return "";
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte >= 0x80U || byte == 0) {
    return fmt::format("; byte 0x{:02x} here: the file must be UTF-8 text", byte);
  }
  if (byte == '/' || byte == '#') return "; JSON has no comments: remove it";
  const std::size_t before = at == 0 ? at : text.find_last_not_of(" \t\r\n", at - 1);
  if ((byte == '}' || byte == ']') && before != std::string_view::npos && text[before] == ',') {
    return "; remove the comma before it";
  }
  const std::string shown = snippet(text, at);
  return shown.empty() ? "" : fmt::format("; at: {}", shown);
}

bool is_word(char byte) {
  return std::isalnum(static_cast<unsigned char>(byte)) != 0 || byte == '.' || byte == '+' ||
         byte == '-';
}

std::size_t TreeBuilder::place_of_error(std::size_t position, std::size_t token_size,
                                        const std::string& reason) const {
  const std::size_t size = text_.size();
  if (reason.starts_with("unexpected end of input")) return size;
  if (reason.find("missing closing quote") != std::string::npos) {
    return size - std::min(size, token_size);
  }
  std::size_t at = std::min(std::max<std::size_t>(position, 1), size) - 1;
  if (reason.starts_with("invalid string")) return at;  // the offending byte
  if (reason.starts_with("unexpected string")) return start_of_string();
  if (at > 0 && !is_word(text_[at]) && is_word(text_[at - 1]) && reason == "invalid literal") --at;
  while (at > 0 && is_word(text_[at]) && is_word(text_[at - 1])) --at;
  return at;
}

bool TreeBuilder::parse_error(std::size_t position, const std::string& last_token,
                              const nlohmann::detail::exception& error) {
  static constexpr int kOverflow = 406;
  const std::string reason = error.id == kOverflow ? "the number does not fit a double"
                                                   : reason_of(error.what(), last_token.size());
  const std::size_t at = place_of_error(position, last_token.size(), reason);
  throw InputError(
      fmt::format("{}: not valid JSON: {}{}", place(file_, text_, at), reason, hint_of(text_, at)));
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& file, std::size_t max_bytes) {
  if (text.size() > max_bytes) {
    throw InputError(fmt::format("{}: {} of JSON, but at most {} are read here", file,
                                 format_bytes(text.size()), format_bytes(max_bytes)));
  }
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    throw InputError(fmt::format("{}: empty; expected JSON, such as {{\"key\": value}}", file));
  }
  // The parser would take a zero byte for the end and not look behind it.
  const std::size_t zero = text.find('\0');
  if (zero != std::string_view::npos) {
    throw InputError(
        fmt::format("{}: not valid JSON{}", place(file, text, zero), hint_of(text, zero)));
  }
  return TreeBuilder(text, file).parse();
}

nlohmann::json read_json(const std::filesystem::path& file, std::size_t max_bytes) {
  const MappedFile mapped(file);
  return parse_json(mapped.text(), file.string(), max_bytes);
}

nlohmann::json parse_plain_json(std::string_view text) { return nlohmann::json::parse(text); }

nlohmann::json try_parse_json(std::string_view text) {
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

std::string json_text(const nlohmann::json& value, int indent) { return value.dump(indent); }

std::string json_text(const nlohmann::ordered_json& value, int indent) {
  return value.dump(indent);
}

}  // namespace longspan::base
