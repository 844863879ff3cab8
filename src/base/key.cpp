#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "longspan/base/declarations.h"
#include "longspan/base/json.h"
#include "longspan/base/size_text.h"

namespace longspan::base {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kAuto = "auto";
constexpr double kLargestWhole = 9007199254740992.0;  // 2^53: beyond, doubles skip whole numbers

template <class Held>
inline constexpr bool kIsOptional = false;
template <class Held>
inline constexpr bool kIsOptional<std::optional<Held>> = true;

bool is_zero(const Key::Value& value) {
  return std::visit(
      [](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_arithmetic_v<Held>) return held == Held{0};
        if constexpr (kIsOptional<Held>) return !held.has_value();
        if constexpr (!std::is_arithmetic_v<Held> && !kIsOptional<Held>) return held.empty();
        return false;
      },
      value);
}

template <class Integer>
std::optional<Key::Value> whole(const nlohmann::json& found) {
  if (found.is_number_unsigned()) {
    const auto number = found.get<std::uint64_t>();
    if (std::in_range<Integer>(number)) return static_cast<Integer>(number);
  } else if (found.is_number_integer()) {
    const auto number = found.get<std::int64_t>();
    if (std::in_range<Integer>(number)) return static_cast<Integer>(number);
  } else if (found.is_number_float()) {
    const double number = found.get<double>();
    if (std::trunc(number) != number || std::abs(number) > kLargestWhole) return std::nullopt;
    const auto truncated = static_cast<std::int64_t>(number);
    if (std::in_range<Integer>(truncated)) return static_cast<Integer>(truncated);
  }
  return std::nullopt;
}

/// Strings end up in paths, logs and tables, where control characters do harm.
bool is_plain_text(const nlohmann::json& found) {
  if (!found.is_string()) return false;
  const auto& text = found.get_ref<const std::string&>();
  return std::none_of(text.begin(), text.end(), [](char letter) {
    return static_cast<unsigned char>(letter) < 0x20U || letter == 0x7F;
  });
}

/// A bound as JSON: 1, not 1.0.
Json number(double bound) {
  if (std::trunc(bound) == bound && std::abs(bound) <= kLargestWhole) {
    return static_cast<std::int64_t>(bound);
  }
  return bound;
}

/// "\"a\", \"b\" or ..." of the words, ending with `last` when that is not empty.
std::string alternatives(const std::vector<Key::Word>& words, const std::string& last = "") {
  std::vector<std::string> items;
  for (const Key::Word& word : words) items.push_back(fmt::format("\"{}\"", word.first));
  if (!last.empty()) items.push_back(last);
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += i + 1 == items.size() ? " or " : ", ";
    text += items[i];
  }
  return text;
}

}  // namespace

Key::Key(std::string path, KeyKind kind, Target target, std::string help, std::vector<Word> words,
         std::string other_texts)
    : path_(std::move(path)),
      kind_(kind),
      target_(target),
      help_(std::move(help)),
      words_(std::move(words)),
      other_texts_(std::move(other_texts)),
      default_(value()) {}

Key& Key::required() {
  required_ = true;
  return *this;
}

Key& Key::required_unless(std::string other) {
  substitute_ = std::move(other);
  return *this;
}

Key& Key::at_least(double bound) {
  low_ = bound;
  low_is_open_ = false;
  return *this;
}

Key& Key::above(double bound) {
  low_ = bound;
  low_is_open_ = true;
  return *this;
}

Key& Key::at_most(double bound) {
  high_ = bound;
  high_is_open_ = false;
  return *this;
}

Key& Key::below(double bound) {
  high_ = bound;
  high_is_open_ = true;
  return *this;
}

Key& Key::automatic(std::string meaning) {
  auto_meaning_ = std::move(meaning);
  return *this;
}

Key& Key::may_be_absent(std::string meaning) {
  absent_meaning_ = std::move(meaning);
  return *this;
}

Key& Key::unit(std::string unit) {
  unit_ = std::move(unit);
  return *this;
}

Key& Key::or_count() {
  takes_count_ = true;
  return *this;
}

Key& Key::known_elsewhere_as(std::vector<std::string> names) {
  other_names_ = std::move(names);
  return *this;
}

std::string_view Key::section() const {
  const std::size_t dot = path_.rfind('.');
  return dot == std::string::npos ? std::string_view() : std::string_view(path_).substr(0, dot);
}

std::string_view Key::name() const {
  const std::size_t dot = path_.rfind('.');
  return dot == std::string::npos ? path_ : std::string_view(path_).substr(dot + 1);
}

std::string Key::type() const {
  switch (kind_) {
    case KeyKind::kBool:
      return "boolean";
    case KeyKind::kInteger:
      return "integer";
    case KeyKind::kReal:
      return "number";
    case KeyKind::kText:
      return "text";
    case KeyKind::kPath:
      return "path";
    case KeyKind::kChoice:
      return "choice";
    case KeyKind::kPhrase:
      return takes_count_ ? "choice, text or integer" : "choice or text";
    case KeyKind::kPathList:
      return "list of paths";
    case KeyKind::kTextList:
      return "choice or list of texts";
    case KeyKind::kRealList:
      return "list of numbers";
    case KeyKind::kSize:
      return "size";
  }
  return "";
}

std::string Key::bounds() const {
  if (low_ && high_) {
    return fmt::format("in {}{}, {}{}", low_is_open_ ? '(' : '[', *low_, *high_,
                       high_is_open_ ? ')' : ']');
  }
  if (low_) return fmt::format("{} {}", low_is_open_ ? ">" : ">=", *low_);
  if (high_) return fmt::format("{} {}", high_is_open_ ? "<" : "<=", *high_);
  return "";
}

std::string Key::range() const {
  std::string text;
  switch (kind_) {
    case KeyKind::kBool:
      return "true or false";
    case KeyKind::kChoice:
      return alternatives(words_);
    case KeyKind::kPhrase:
    case KeyKind::kTextList:
      return alternatives(words_, other_texts_);
    case KeyKind::kText:
      return low_ ? "not empty" : "";
    case KeyKind::kPath:
      text = low_ ? "not empty" : "";
      return words_.empty() ? text : alternatives(words_, "a path");
    case KeyKind::kPathList:
      return low_ ? "at least one, none empty" : "none empty";
    case KeyKind::kRealList:
      text = bounds();
      return text.empty() ? "at least one" : fmt::format("at least one, each {}", text);
    case KeyKind::kSize:
      text = fmt::format("{}{}in bytes, such as 1048576 or \"1GiB\"", bounds(), low_ ? " " : "");
      break;
    case KeyKind::kInteger:
    case KeyKind::kReal:
      text = bounds();
      if (!unit_.empty()) text += fmt::format("{}({})", text.empty() ? "" : " ", unit_);
  }
  if (!auto_meaning_.empty()) text += text.empty() ? "or \"auto\"" : ", or \"auto\"";
  return text;
}

std::string Key::legal() const {
  const std::string values = range();
  if (kind_ == KeyKind::kBool || !words_.empty()) return values;
  if (values.empty()) return type();
  const bool is_number =
      kind_ == KeyKind::kInteger || kind_ == KeyKind::kReal || kind_ == KeyKind::kSize;
  return fmt::format("{}{} {}", type(), is_number ? "" : ",", values);
}

std::string Key::meaning() const {
  std::string text = help_;
  for (std::size_t i = 0; i < words_.size(); ++i) {
    text += fmt::format("{} \"{}\": {}", i == 0 ? "" : ";", words_[i].first, words_[i].second);
  }
  if (!words_.empty()) text += '.';
  if (!auto_meaning_.empty()) text += fmt::format(" \"auto\": {}.", auto_meaning_);
  return text;
}

std::string Key::default_text() const {
  if (required_) return "required";
  if (!substitute_.empty()) {
    return fmt::format("required, or {}", substitute_.substr(substitute_.rfind('.') + 1));
  }
  if (!absent_meaning_.empty() && is_zero(default_)) return absent_meaning_;
  return json_text(to_json(default_));
}

void Key::describe_kind(Json& property) const {
  const bool is_text = kind_ == KeyKind::kText || kind_ == KeyKind::kPath;
  if (kind_ == KeyKind::kChoice) {
    for (const Word& word : words_) property["enum"].push_back(word.first);
  } else if (kind_ == KeyKind::kPhrase) {
    Json text = {{"type", "string"}, {"minLength", 1}};
    for (const Word& word : words_) text["examples"].push_back(word.first);
    if (!takes_count_) {
      property.update(text);
    } else {
      property["anyOf"] = Json::array({text, {{"type", "integer"}, {"minimum", 1}}});
    }
  } else if (kind_ == KeyKind::kPathList) {
    property["type"] = "array";
    property["items"] = {{"type", "string"}, {"minLength", 1}};
    if (low_) property["minItems"] = 1;
  } else if (kind_ == KeyKind::kTextList) {
    property["anyOf"] = Json::array();
    for (const Word& word : words_) property["anyOf"].push_back({{"const", word.first}});
    property["anyOf"].push_back(
        {{"type", "array"}, {"items", {{"type", "string"}, {"minLength", 1}}}, {"minItems", 1}});
  } else if (kind_ == KeyKind::kRealList) {
    property["type"] = "array";
    property["items"]["type"] = "number";
    describe_bounds(property["items"]);
    property["minItems"] = 1;
  } else if (is_text) {
    property["type"] = "string";
    if (low_) property["minLength"] = 1;
    for (const Word& word : words_) property["examples"].push_back(word.first);
  } else if (kind_ == KeyKind::kBool) {
    property["type"] = "boolean";
  } else {
    property["type"] = kind_ == KeyKind::kReal ? "number" : "integer";
    describe_bounds(property);
  }
}

void Key::describe_bounds(Json& property) const {
  if (low_) property[low_is_open_ ? "exclusiveMinimum" : "minimum"] = number(*low_);
  if (high_) property[high_is_open_ ? "exclusiveMaximum" : "maximum"] = number(*high_);
}

void Key::describe(Json& property) const {
  std::string description = meaning();
  if (!absent_meaning_.empty()) description += fmt::format(" Left out: {}.", absent_meaning_);
  if (!unit_.empty()) description += fmt::format(" ({})", unit_);
  property["description"] = description;
  Json kind = Json::object();
  describe_kind(kind);
  if (kind_ == KeyKind::kSize || !auto_meaning_.empty()) {
    property["anyOf"] = Json::array({kind});
    if (kind_ == KeyKind::kSize) {
      property["anyOf"].push_back({{"type", "string"}, {"pattern", kSizePattern}});
    }
    if (!auto_meaning_.empty()) property["anyOf"].push_back({{"const", kAuto}});
  } else {
    property.update(kind);
  }
  const bool counts_as_absent = !absent_meaning_.empty() && is_zero(default_);
  if (!required_ && substitute_.empty() && !counts_as_absent)
    property["default"] = to_json(default_);
}

bool Key::in_range(long double number) const {
  if (low_ && (low_is_open_ ? number <= *low_ : number < *low_)) return false;
  return !(high_ && (high_is_open_ ? number >= *high_ : number > *high_));
}

std::optional<Key::Value> Key::convert_integer(const nlohmann::json& found) const {
  std::optional<Value> result = std::holds_alternative<std::uint64_t*>(target_)
                                    ? whole<std::uint64_t>(found)
                                    : whole<std::int64_t>(found);
  if (!result) return std::nullopt;
  const auto* const is_signed = std::get_if<std::int64_t>(&*result);
  const long double number = is_signed != nullptr ? static_cast<long double>(*is_signed)
                                                  : std::get<std::uint64_t>(*result);
  if (!in_range(number)) return std::nullopt;
  if (std::holds_alternative<std::optional<std::int64_t>*>(target_)) {
    return std::optional<std::int64_t>(*is_signed);
  }
  return result;
}

std::optional<Key::Value> Key::convert_list(const nlohmann::json& found) const {
  for (const Word& word : words_) {
    if (found == word.first) return std::vector<std::string>{word.first};
  }
  if (!found.is_array()) return std::nullopt;
  const auto each = [&](const auto& is_legal) {
    return std::all_of(found.begin(), found.end(), is_legal);
  };
  if (kind_ == KeyKind::kRealList) {
    const bool legal = !found.empty() && each([this](const nlohmann::json& item) {
      return item.is_number() && in_range(item.get<double>());
    });
    return legal ? std::optional<Value>(found.get<std::vector<double>>()) : std::nullopt;
  }
  const bool may_be_empty = kind_ == KeyKind::kPathList || !found.empty();
  const bool legal = may_be_empty && in_range(found.size()) && each([](const nlohmann::json& item) {
                       return is_plain_text(item) && !item.get_ref<const std::string&>().empty();
                     });
  return legal ? std::optional<Value>(found.get<std::vector<std::string>>()) : std::nullopt;
}

std::optional<Key::Value> Key::convert(const nlohmann::json& found) const {
  if (!auto_meaning_.empty() && found == kAuto) {
    return std::visit([](auto* target) { return Value(std::decay_t<decltype(*target)>{}); },
                      target_);
  }
  switch (kind_) {
    case KeyKind::kBool:
      if (!found.is_boolean()) break;
      if (std::holds_alternative<bool*>(target_)) return found.get<bool>();
      return std::optional<bool>(found.get<bool>());
    case KeyKind::kSize:
      if (found.is_string()) {
        const std::optional<std::uint64_t> size = parse_size(found.get_ref<const std::string&>());
        return size && in_range(*size) ? std::optional<Value>(*size) : std::nullopt;
      }
      return convert_integer(found);
    case KeyKind::kInteger:
      return convert_integer(found);
    case KeyKind::kReal:
      if (!found.is_number() || !in_range(found.get<double>())) break;
      if (std::holds_alternative<double*>(target_)) return found.get<double>();
      return std::optional<double>(found.get<double>());
    case KeyKind::kChoice:
      for (const Word& word : words_) {
        if (found == word.first) return word.first;
      }
      break;
    case KeyKind::kPhrase:
      if (is_plain_text(found)) {
        const auto& text = found.get_ref<const std::string&>();
        const bool is_number = text.find_first_not_of("0123456789") == std::string::npos;
        return is_number ? std::nullopt : std::optional<Value>(text);
      }
      if (const auto count = takes_count_ ? whole<std::int64_t>(found) : std::nullopt) {
        const auto number = std::get<std::int64_t>(*count);
        if (number >= 1) return std::to_string(number);
      }
      break;
    case KeyKind::kText:
    case KeyKind::kPath:
      if (is_plain_text(found) && in_range(found.get_ref<const std::string&>().size())) {
        return found.get<std::string>();
      }
      break;
    case KeyKind::kPathList:
    case KeyKind::kTextList:
    case KeyKind::kRealList:
      return convert_list(found);
  }
  return std::nullopt;
}

bool Key::assign(const nlohmann::json& found) {
  const std::optional<Value> value = convert(found);
  if (value) store(*value);
  return value.has_value();
}

void Key::reset() { store(default_); }

Key::Value Key::value() const {
  return std::visit([](const auto* target) { return Value(*target); }, target_);
}

void Key::store(const Value& value) {
  std::visit([&](auto* target) { *target = std::get<std::decay_t<decltype(*target)>>(value); },
             target_);
}

Json Key::to_json(const Value& value) const {
  if (!auto_meaning_.empty() && is_zero(value)) return kAuto;
  if (kind_ == KeyKind::kPhrase) {
    const auto& text = std::get<std::string>(value);
    const bool is_count = text.find_first_not_of("0123456789") == std::string::npos;
    if (is_count) return parse_plain_json(text);
  }
  if (kind_ == KeyKind::kTextList) {
    const auto& texts = std::get<std::vector<std::string>>(value);
    for (const Word& word : words_) {
      if (texts == std::vector<std::string>{word.first}) return word.first;
    }
  }
  return std::visit(
      [](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (kIsOptional<Held>) return Json(held.value());
        if constexpr (!kIsOptional<Held>) return Json(held);
      },
      value);
}

std::optional<Json> Key::present() const {
  const Value now = value();
  if (!absent_meaning_.empty() && is_zero(now)) return std::nullopt;
  return to_json(now);
}

}  // namespace longspan::base
