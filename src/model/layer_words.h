#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "longspan/base/error.h"

namespace longspan::model {

inline std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

inline std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

inline std::string none_of_these(std::string_view word) {
  return fmt::format("\"{}\" is none of these words", word);
}

/// A word for each layer: one for all, or "0-15: block, 16: block_keep_attention". Layers that the
/// text does not name get what a Value is by itself.
template <typename Value>
class LayerWords {
 public:
  /// What a word means; or nothing, and why.
  using Read = std::function<std::optional<Value>(std::string_view word, std::string& why_not)>;

  /// `names` are the legal words, of which messages show the second and third as examples; `also`
  /// tells of other legal forms and ends with ", ", or is empty.
  LayerWords(Read read, std::vector<std::string> names, std::string also, std::string key,
             std::int64_t layers)
      : read_(std::move(read)),
        names_(std::move(names)),
        also_(std::move(also)),
        key_(std::move(key)),
        values_(static_cast<std::size_t>(layers)) {}

  /// Throws InputError that names the key and what is legal.
  std::vector<Value> read(const std::string& text) {
    text_ = text;
    if (text.find(':') == std::string::npos) {
      std::fill(values_.begin(), values_.end(), value_of(text));
      return values_;
    }
    std::size_t begin = 0;
    while (begin != std::string::npos) {
      const std::size_t comma = text.find(',', begin);
      read_range(std::string_view(text).substr(begin, comma - begin));
      begin = comma == std::string::npos ? comma : comma + 1;
    }
    return values_;
  }

 private:
  Value value_of(std::string_view word) const {
    std::string why_not;
    const std::optional<Value> value = read_(word, why_not);
    if (!value) refuse(why_not);
    return *value;
  }

  [[noreturn]] void refuse(const std::string& why) const {
    std::string legal;
    for (const std::string& name : names_) legal += fmt::format("\"{}\", ", name);
    throw base::InputError(fmt::format(
        "{} is \"{}\": {}; legal: {}{}or ranges of layers in rising order such as \"0-3: {}, 4-7: "
        "{}\"",
        key_, text_, why, legal, also_, names_[1], names_[2]));
  }

  void read_range(std::string_view part) {
    const std::size_t colon = part.find(':');
    if (colon == std::string_view::npos) {
      refuse(fmt::format("\"{}\" names no layers", trimmed(part)));
    }
    const Value value = value_of(trimmed(part.substr(colon + 1)));
    const std::string_view range = trimmed(part.substr(0, colon));
    const std::size_t dash = range.find('-');
    const auto first = whole_number(trimmed(range.substr(0, dash)));
    const auto last =
        dash == std::string_view::npos ? first : whole_number(trimmed(range.substr(dash + 1)));
    if (!first || !last) refuse(fmt::format("\"{}\" is no range of layers", range));
    const auto layers = static_cast<std::int64_t>(values_.size());
    if (*first < next_ || *last < *first || *last >= layers) {
      refuse(fmt::format("layers {} do not rise within 0-{}", range, layers - 1));
    }
    std::fill(values_.begin() + *first, values_.begin() + *last + 1, value);
    next_ = *last + 1;
  }

  Read read_;
  std::vector<std::string> names_;
  std::string also_;
  std::string key_;
  std::string text_;
  std::vector<Value> values_;
  std::int64_t next_ = 0;
};

}  // namespace longspan::model
