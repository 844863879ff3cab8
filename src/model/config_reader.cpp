#include "model/config_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/base/json.h"

namespace longspan::model {

using nlohmann::json;

ConfigReader::ConfigReader(const json& object, std::string file)
    : object_(object), file_(std::move(file)) {}

bool ConfigReader::has(const char* key) {
  known_.insert(key);
  return object_.contains(key) && !object_.at(key).is_null();
}

std::int64_t ConfigReader::integer(const char* key) {
  if (!has(key)) fail(key, "is missing; expected an integer");
  return integer(key, 0);
}

std::int64_t ConfigReader::integer(const char* key, std::int64_t otherwise) {
  if (!has(key)) return otherwise;
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (!object_.at(key).is_number_integer()) fail(key, found(key) + "; expected an integer");
  const auto value = object_.at(key).get<std::int64_t>();
  if (value < -kMost || value > kMost) {
    fail(key, fmt::format("{}; expected at most {}", found(key), kMost));
  }
  return value;
}

std::int64_t ConfigReader::size(const char* key, std::int64_t otherwise) {
  const std::int64_t value = integer(key, otherwise);
  if (has(key) && value < 1) fail(key, found(key) + "; expected at least 1");
  return value;
}

double ConfigReader::real(const char* key, double otherwise) {
  if (!has(key)) return otherwise;
  if (!object_.at(key).is_number()) fail(key, found(key) + "; expected a number");
  return object_.at(key).get<double>();
}

double ConfigReader::positive(const char* key, double otherwise) {
  const double value = real(key, otherwise);
  if (!std::isfinite(value) || value <= 0.0) fail(key, found(key) + "; expected a number above 0");
  return value;
}

bool ConfigReader::boolean(const char* key, bool otherwise) {
  if (!has(key)) return otherwise;
  if (!object_.at(key).is_boolean()) fail(key, found(key) + "; expected true or false");
  return object_.at(key).get<bool>();
}

std::string ConfigReader::text(const char* key, const std::string& otherwise) {
  if (!has(key)) return otherwise;
  if (!object_.at(key).is_string()) fail(key, found(key) + "; expected a text");
  return object_.at(key).get<std::string>();
}

std::vector<std::string> ConfigReader::texts(const char* key) {
  if (!has(key)) return {};
  std::vector<std::string> texts;
  const json& list = object_.at(key);
  for (const json& one : list) {
    if (list.is_array() && one.is_string()) texts.push_back(one.get<std::string>());
  }
  if (!list.is_array() || texts.size() != list.size()) {
    fail(key, found(key) + "; expected a list of texts");
  }
  return texts;
}

std::int64_t ConfigReader::size_or_none(const char* key, std::int64_t otherwise) {
  return is_null(key) ? 0 : size(key, otherwise);
}

double ConfigReader::positive_or_none(const char* key, double otherwise) {
  if (is_null(key)) return 0.0;
  return has(key) ? positive(key, otherwise) : otherwise;
}

bool ConfigReader::is_null(const char* key) {
  known_.insert(key);
  return object_.contains(key) && object_.at(key).is_null();
}

void ConfigReader::require(const char* key, const std::vector<json>& legal) {
  if (!has(key) || std::find(legal.begin(), legal.end(), object_.at(key)) != legal.end()) return;
  std::vector<std::string> texts;
  for (const json& value : legal) texts.push_back(base::json_text(value));
  fail(key, fmt::format("{}; only {} is supported", found(key), fmt::join(texts, " or ")));
}

ConfigReader ConfigReader::object(const char* key) {
  if (!has(key) || !object_.at(key).is_object()) fail(key, found(key) + "; expected an object");
  return {object_.at(key), fmt::format("{}: {}", file_, key)};
}

void ConfigReader::ignore(const std::vector<const char*>& keys) {
  known_.insert(keys.begin(), keys.end());
}

void ConfigReader::finish() const {
  for (const auto& [key, value] : object_.items()) {
    if (!known_.contains(key)) {
      fail(key, fmt::format("is {}, a key that this version does not know; remove it if it does "
                            "not change what the model computes",
                            base::json_text(value)));
    }
  }
}

void ConfigReader::fail(const std::string& key, const std::string& what) const {
  throw base::InputError(fmt::format("{}: {} {}", file_, key, what));
}

std::string ConfigReader::found(const char* key) const {
  return fmt::format("is {}", base::json_text(object_.at(key)));
}

}  // namespace longspan::model
