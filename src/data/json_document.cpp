#include "data/json_document.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/json_line.h"
#include "longspan/base/error.h"

namespace longspan::data {
namespace {

using Json = nlohmann::json;

std::string string_of(const Json& value, const std::string& what) {
  if (value.is_string()) return value.get<std::string>();
  throw base::InputError(fmt::format("{} must be a string, found {}", what, json_kind(value)));
}

/// A content: a string, or OpenAI's list of parts, as far as they are texts.
std::string content_of(const Json& value, const std::string& turn) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) {
    throw base::InputError(
        fmt::format("{}: the content must be a string or a list of text parts, found {}", turn,
                    json_kind(value)));
  }
  std::string text;
  for (const Json& part : value) {
    const bool is_text = part.is_object() && part.size() == 2 && part.contains("type") &&
                         part["type"] == "text" && part.contains("text") &&
                         part["text"].is_string();
    if (!is_text) {
      throw base::InputError(
          fmt::format("{}: each part of the content must be {{\"type\": \"text\", \"text\": …}}: "
                      "models here read "
                      "text alone",
                      turn));
    }
    text += part["text"].get<std::string>();
  }
  return text;
}

/// OpenAI's: 0 or 1.
bool weight_of(const Json& value, const std::string& turn) {
  if (value == 0) return false;
  if (value == 1) return true;
  throw base::InputError(
      fmt::format("{}: the weight must be 0 or 1: whether the turn counts in the loss", turn));
}

/// Names of the members that make a turn, in the two spellings there are.
struct TurnKeys {
  const char* role;
  const char* content;
};

ChatTurn turn_of(const Json& message, const TurnKeys& keys, const std::string& name) {
  if (!message.is_object()) {
    throw base::InputError(fmt::format("{} must be an object, found {}", name, json_kind(message)));
  }
  ChatTurn turn;
  for (const auto& [key, value] : message.items()) {
    if (key == keys.role) {
      turn.role = string_of(value, fmt::format("{}: the {}", name, key));
    } else if (key == keys.content) {
      turn.content = content_of(value, name);
    } else if (key == "weight") {
      turn.train = weight_of(value, name);
    } else if (!value.is_null()) {
      throw base::InputError(fmt::format(
          "{}: the key \"{}\" is not supported: the chat templates here do not write it; there are "
          "{}, {} and weight",
          name, key, keys.role, keys.content));
    }
  }
  for (const char* key : {keys.role, keys.content}) {
    if (!message.contains(key)) {
      throw base::InputError(fmt::format("{} has no \"{}\"", name, key));
    }
  }
  return turn;
}

/// Roles as ShareGPT names them.
std::string role_of(const std::string& from, const std::string& turn) {
  if (from == "human") return "user";
  if (from == "gpt") return "assistant";
  if (from == "system" || from == "user" || from == "assistant") return from;
  throw base::InputError(
      fmt::format("{}: \"from\" is \"{}\"; there are system, human and gpt", turn, from));
}

TextDocument chat_of(const Json& members, bool is_sharegpt) {
  const char* field = is_sharegpt ? "conversations" : "messages";
  for (const char* key : {"tools", "functions"}) {
    if (members.contains(key) && !members[key].is_null() && !members[key].empty()) {
      throw base::InputError(fmt::format(
          "the field \"{}\" is not supported: the chat templates here have no place for tools",
          key));
    }
  }
  const Json& messages = members[field];
  if (!messages.is_array()) {
    throw base::InputError(fmt::format("the field \"{}\" must be a list of turns, found {}", field,
                                       json_kind(messages)));
  }
  if (messages.empty()) throw base::InputError(fmt::format("the field \"{}\" has no turns", field));
  const TurnKeys keys = is_sharegpt ? TurnKeys{"from", "value"} : TurnKeys{"role", "content"};
  std::vector<ChatTurn> turns;
  for (const Json& message : messages) {
    const std::string name = fmt::format("turn {}", turns.size() + 1);
    turns.push_back(turn_of(message, keys, name));
    if (is_sharegpt) turns.back().role = role_of(turns.back().role, name);
  }
  return {DocumentKind::kChat, std::move(turns)};
}

TextDocument completion_of(const Json& members) {
  const std::string prompt = string_of(members["prompt"], "the field \"prompt\"");
  const std::string completion = string_of(members["completion"], "the field \"completion\"");
  return {DocumentKind::kCompletion, {{"user", prompt, {}}, {"assistant", completion, {}}}};
}

TextDocument text_of(const Json& members, const std::string& field) {
  return TextDocument(string_of(members[field], fmt::format("the field \"{}\"", field)));
}

}  // namespace

TextDocument json_document(std::string_view line, const TextOptions& options) {
  const std::string& field = options.text_field;
  if (options.line_content == LineContent::kText) {
    const Json members = json_members(line, {field});
    if (!members.contains(field)) throw base::InputError(fmt::format("no field \"{}\"", field));
    return text_of(members, field);
  }
  const Json members = json_members(
      line, {field, "messages", "conversations", "prompt", "completion", "tools", "functions"});
  std::vector<std::string> found;
  if (members.contains("messages")) found.emplace_back("messages");
  if (members.contains("conversations")) found.emplace_back("conversations");
  // One of the two alone is a remark beside something else.
  if (members.contains("prompt") && members.contains("completion")) found.emplace_back("prompt");
  const bool has_text = members.contains(field);
  if (found.empty() && !has_text) {
    throw base::InputError(fmt::format(
        "no field \"{}\", nor \"messages\" of a chat, nor \"prompt\" and \"completion\"", field));
  }
  if (found.empty()) return text_of(members, field);
  if (found.size() > 1 || (has_text && options.line_content == LineContent::kAny)) {
    if (has_text) found.insert(found.begin(), field);
    throw base::InputError(fmt::format(
        "it could be more than one document, by its fields {}: choose with --text-field {} or "
        "--chat-template, or remove one",
        fmt::join(found, ", "), field));
  }
  return found.front() == "prompt" ? completion_of(members)
                                   : chat_of(members, found.front() == "conversations");
}

}  // namespace longspan::data
