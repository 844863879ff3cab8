#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "longspan/base/declarations.h"
#include "longspan/base/json.h"

namespace longspan::base {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kColumns = 100;

/// Breaks a text between words into lines of `kColumns`, each indented.
std::string wrapped(std::string_view text, std::size_t indent) {
  std::string result;
  std::string line(indent, ' ');
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    if (line.size() > indent && line.size() + 1 + word.size() > kColumns) {
      result += line + '\n';
      line.assign(indent, ' ');
    }
    if (line.size() > indent) line += ' ';
    line += word;
  }
  return result + line + '\n';
}

/// A cell of a Markdown table: no bare pipes.
std::string cell(std::string_view text) {
  std::string result;
  for (const char letter : text) {
    if (letter == '|') result += '\\';
    result += letter;
  }
  return result;
}

/// "a.b" as the JSON pointer "/a/b".
Json::json_pointer pointer_of(std::string_view path) {
  std::string text = "/";
  for (const char letter : path) text += letter == '.' ? '/' : letter;
  return Json::json_pointer(text);
}

bool is_directly_in(std::string_view inner, std::string_view section) {
  if (inner.empty() || inner == section) return false;
  const std::size_t dot = inner.rfind('.');
  return (dot == std::string_view::npos ? std::string_view() : inner.substr(0, dot)) == section;
}

}  // namespace

Json Declarations::schema_of(const Section& section) const {
  Json schema = {{"type", "object"}, {"description", section.help}};
  Json properties = Json::object();
  Json required = Json::array();
  std::map<std::string, Json> substituted;  // by the key that stands in for them
  if (section.path.empty()) {
    properties["$schema"] = {{"type", "string"}, {"description", "Address of this schema."}};
  }
  for (const Key& key : keys_) {
    if (key.section() != section.path) continue;
    Json property = Json::object();
    key.describe(property);
    properties[std::string(key.name())] = property;
    if (key.is_required()) required.push_back(key.name());
    if (!key.substitute().empty()) substituted[key.substitute()].push_back(key.name());
  }
  for (const Section& inner : sections_) {
    if (!is_directly_in(inner.path, section.path)) continue;
    const std::string name = inner.path.substr(inner.path.rfind('.') + 1);
    properties[name] = schema_of(inner);
    const Json& found = properties[name];
    if (found.contains("required") || found.contains("anyOf")) required.push_back(name);
  }
  schema["properties"] = properties;
  if (!required.empty()) schema["required"] = required;
  for (const auto& [substitute, keys] : substituted) {
    const std::string name = substitute.substr(substitute.rfind('.') + 1);
    schema["anyOf"] = {{{"required", {name}}}, {{"required", keys}}};
  }
  schema["additionalProperties"] = false;
  return schema;
}

std::string Declarations::schema() const {
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", title_}};
  schema.update(schema_of(sections_.front()));
  return json_text(schema, 2) + '\n';
}

std::string Declarations::help() const {
  std::string text = wrapped(fmt::format("{}. {}", title_, sections_.front().help), 0);
  for (const Section& section : sections_) {
    if (!section.path.empty()) {
      text += '\n' + wrapped(fmt::format("{}: {}", section.path, section.help), 0);
    }
    for (const Key& key : keys_) {
      if (key.section() != section.path) continue;
      const std::string fallback =
          key.is_required() ? "required" : fmt::format("default: {}", key.default_text());
      text += wrapped(fmt::format("{}  {}; {}", key.path(), key.legal(), fallback), 2);
      text += wrapped(key.meaning(), 6);
    }
  }
  return text;
}

std::string Declarations::markdown() const {
  std::string text;
  for (const Section& section : sections_) {
    std::string rows;
    for (const Key& key : keys_) {
      if (key.section() != section.path) continue;
      const std::string fallback =
          key.is_required() || key.default_text().find(' ') != std::string::npos
              ? key.default_text()
              : fmt::format("`{}`", key.default_text());
      rows += fmt::format("| `{}` | {} | {} | {} | {} |\n", key.name(), key.type(),
                          cell(key.range()), cell(fallback), cell(key.meaning()));
    }
    if (!section.path.empty())
      text += fmt::format("### `{}`\n\n{}\n\n", section.path, section.help);
    if (rows.empty()) continue;
    text +=
        "| Key | Type | Legal values | Default | Meaning |\n|---|---|---|---|---|\n" + rows + '\n';
  }
  if (text.ends_with("\n\n")) text.pop_back();
  return text;
}

std::string Declarations::to_json() const {
  Json document = Json::object();
  for (const Key& key : keys_) {
    const std::optional<Json> value = key.present();
    if (value) document[pointer_of(key.path())] = *value;
  }
  return json_text(document, 2) + '\n';
}

}  // namespace longspan::base
