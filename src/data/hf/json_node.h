#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace longspan::data::hf {

/// A value in a JSON file and its path there, as in "model.merges[3]". All members throw InputError
/// naming file and path when the value is not what is asked for. A view: the JSON must outlive it.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, const std::string& file) : value_(&value), file_(&file) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& path() const { return path_; }
  bool is_object() const;
  bool is_array() const;
  bool is_string() const;

  /// The member of an object; none when it is absent or null.
  std::optional<JsonNode> find(std::string_view name) const;
  JsonNode at(std::string_view name) const;
  std::vector<JsonNode> elements() const;
  const std::string& string() const;
  bool boolean() const;
  std::int64_t integer(std::int64_t low, std::int64_t high) const;

  /// Of a member, which when absent or null is `fallback`.
  bool boolean(std::string_view name, bool fallback) const;
  std::string string(std::string_view name, const std::string& fallback) const;
  /// The member "type", which says what kind of step an object is.
  const std::string& type() const { return at("type").string(); }

  /// Refuses an object that has any other member: one that is not known could change ids.
  void allow_only(std::initializer_list<std::string_view> names) const;
  [[noreturn]] void refuse(const std::string& why) const;

 private:
  JsonNode(const nlohmann::json& value, const std::string& file, std::string path)
      : value_(&value), file_(&file), path_(std::move(path)) {}
  void expect(bool fits, const char* expected) const;

  const nlohmann::json* value_;
  const std::string* file_;
  std::string path_;
};

/// Text of a file as it may stand in a message: one line, quoted, at most about 40 bytes.
std::string shown(std::string_view text);

}  // namespace longspan::data::hf
