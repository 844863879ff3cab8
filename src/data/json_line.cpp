#include "data/json_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/base/json.h"

namespace longspan::data {
namespace {

using Json = nlohmann::json;

/// Listens to the parser instead of building the object: lines may be large, and only some members
/// of the outermost object matter.
class MemberReader final : public nlohmann::json_sax<Json> {
 public:
  explicit MemberReader(const std::vector<std::string>& names) : names_(names) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool flag) override { return value(flag); }
  bool number_integer(number_integer_t number) override { return value(number); }
  bool number_unsigned(number_unsigned_t number) override { return value(number); }
  bool number_float(number_float_t number, const string_t&) override { return value(number); }
  bool binary(binary_t&) override { return false; }
  bool string(string_t& text) override { return value(std::move(text)); }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (depth_ == 1) {
      slot_ = nullptr;
      if (std::find(names_.begin(), names_.end(), name) == names_.end()) return true;
      return claim(members_, name);
    }
    return open_.empty() || claim(*open_.back(), name);
  }

  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    const std::string what = error.what();
    const std::size_t mark = what.find("] ");  // after the library's own error number
    return fail("not JSON: " + (mark == std::string::npos ? what : what.substr(mark + 2)));
  }

  Json take() {
    if (!problem_.empty()) throw base::InputError(problem_);
    return std::move(members_);
  }

 private:
  /// Makes the place for the value of a new key.
  bool claim(Json& object, const std::string& name) {
    const auto [slot, is_new] = object.get_ref<Json::object_t&>().emplace(name, nullptr);
    slot_ = &slot->second;
    return is_new || fail(fmt::format("the field \"{}\" is there twice", name));
  }

  /// Where a value goes; null: it is not kept.
  Json* put(Json value) {
    if (!open_.empty() && open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    if (slot_ != nullptr) *slot_ = std::move(value);
    return std::exchange(slot_, nullptr);
  }

  bool value(Json value) {
    if (depth_ == 0) return fail(expected_object(value));
    put(std::move(value));
    return true;
  }
  bool open(Json value) {
    if (depth_ == 0 && value.is_array()) return fail(expected_object(value));
    if (depth_++ == 0) return true;
    Json* const kept = put(std::move(value));
    if (kept == nullptr) return true;
    open_.push_back(kept);
    return open_.size() < base::kMaxJsonDepth ||
           fail(fmt::format("more than {} brackets are open at once", base::kMaxJsonDepth));
  }
  bool close() {
    // Those kept are the outermost but one and what is in it.
    if (--depth_ == static_cast<std::int64_t>(open_.size()) && !open_.empty()) open_.pop_back();
    return true;
  }

  static std::string expected_object(const Json& value) {
    return fmt::format("expected an object, found {}", json_kind(value));
  }
  bool fail(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  const std::vector<std::string>& names_;
  std::int64_t depth_ = 0;
  Json members_ = Json::object();
  std::vector<Json*> open_;  ///< objects and arrays that are kept
  Json* slot_ = nullptr;     ///< of the key that was read last
  std::string problem_;
};

}  // namespace

const char* json_kind(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::object:
      return "an object";
    default:
      return "a number";
  }
}

Json json_members(std::string_view line, const std::vector<std::string>& names) {
  MemberReader reader(names);
  Json::sax_parse(line, &reader);
  return reader.take();
}

}  // namespace longspan::data
