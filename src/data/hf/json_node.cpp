#include "data/hf/json_node.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/utf8.h"
#include "longspan/base/error.h"

namespace longspan::data::hf {

bool JsonNode::is_object() const { return value_->is_object(); }
bool JsonNode::is_array() const { return value_->is_array(); }
bool JsonNode::is_string() const { return value_->is_string(); }

void JsonNode::refuse(const std::string& why) const {
  throw base::InputError(fmt::format("cannot load the tokenizer {}: {}{}{}", *file_, path_,
                                     path_.empty() ? "" : ": ", why));
}

void JsonNode::expect(bool fits, const char* expected) const {
  if (!fits) refuse(fmt::format("expected {}, not {}", expected, value_->type_name()));
}

std::optional<JsonNode> JsonNode::find(std::string_view name) const {
  expect(value_->is_object(), "an object");
  const auto found = value_->find(std::string(name));
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return JsonNode(*found, *file_, fmt::format("{}{}{}", path_, path_.empty() ? "" : ".", name));
}

JsonNode JsonNode::at(std::string_view name) const {
  const std::optional<JsonNode> found = find(name);
  if (!found) refuse(fmt::format("\"{}\" is missing", name));
  return *found;
}

std::vector<JsonNode> JsonNode::elements() const {
  expect(value_->is_array(), "an array");
  std::vector<JsonNode> nodes;
  for (const auto& element : *value_) {
    nodes.push_back(JsonNode(element, *file_, fmt::format("{}[{}]", path_, nodes.size())));
  }
  return nodes;
}

const std::string& JsonNode::string() const {
  expect(value_->is_string(), "a string");
  return value_->get_ref<const std::string&>();
}

bool JsonNode::boolean() const {
  expect(value_->is_boolean(), "true or false");
  return value_->get<bool>();
}

std::int64_t JsonNode::integer(std::int64_t low, std::int64_t high) const {
  expect(value_->is_number_integer(), "an integer");
  const bool too_large = value_->is_number_unsigned() &&
                         value_->get<std::uint64_t>() > static_cast<std::uint64_t>(high);
  if (too_large || value_->get<std::int64_t>() < low || value_->get<std::int64_t>() > high) {
    refuse(fmt::format("must be in [{}, {}]", low, high));
  }
  return value_->get<std::int64_t>();
}

bool JsonNode::boolean(std::string_view name, bool fallback) const {
  const auto node = find(name);
  return node ? node->boolean() : fallback;
}

std::string JsonNode::string(std::string_view name, const std::string& fallback) const {
  const auto node = find(name);
  return node ? node->string() : fallback;
}

void JsonNode::allow_only(std::initializer_list<std::string_view> names) const {
  expect(value_->is_object(), "an object");
  for (const auto& [name, value] : value_->items()) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      refuse(fmt::format("{} is not supported here; known are {}", shown(name),
                         fmt::join(names, ", ")));
    }
  }
}

std::string shown(std::string_view text) {
  static constexpr std::size_t kLongest = 40;
  std::string result = "\"";
  for (std::size_t at = 0; at < text.size();) {
    if (result.size() > kLongest) {
      result += "…";
      break;
    }
    const Character character = character_at(text, at);
    if (character.code < 0x20 || character.code == 0x7f || character.code >= kInvalidByte) {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[at]));
    } else {
      result.append(text, at, character.bytes);
    }
    at += character.bytes;
  }
  return result + "\"";
}

}  // namespace longspan::data::hf
