#include "data/json_line.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "longspan/base/error.h"

namespace longspan::data {
namespace {

using Json = nlohmann::json;

/// Listens to the parser instead of building the object: lines may be large, and only one member
/// of the outermost object matters.
class FieldReader final : public nlohmann::json_sax<Json> {
 public:
  explicit FieldReader(const std::string& field) : field_(field) {}

  bool null() override { return other("null"); }
  bool boolean(bool) override { return other("a boolean"); }
  bool number_integer(number_integer_t) override { return other("a number"); }
  bool number_unsigned(number_unsigned_t) override { return other("a number"); }
  bool number_float(number_float_t, const string_t&) override { return other("a number"); }
  bool binary(binary_t&) override { return other("binary"); }

  bool string(string_t& value) override {
    if (depth_ == 0) return other("a string");
    if (!wanted_) return true;
    wanted_ = false;
    if (text_) return fail(fmt::format("the field \"{}\" is there twice", field_));
    text_ = std::move(value);
    return true;
  }

  bool start_object(std::size_t) override {
    if (depth_ > 0 && !other("an object")) return false;
    ++depth_;
    return true;
  }
  bool start_array(std::size_t) override {
    if (!other("an array")) return false;
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(string_t& name) override {
    wanted_ = depth_ == 1 && name == field_;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    const std::string what = error.what();
    const std::size_t mark = what.find("] ");  // after the library's own error number
    return fail("not JSON: " + (mark == std::string::npos ? what : what.substr(mark + 2)));
  }

  std::string take() {
    if (!problem_.empty()) throw base::InputError(problem_);
    if (!text_) throw base::InputError(fmt::format("no field \"{}\"", field_));
    return std::move(*text_);
  }

 private:
  bool other(const char* kind) {
    if (depth_ == 0) return fail(fmt::format("expected an object, found {}", kind));
    if (wanted_) {
      return fail(fmt::format("the field \"{}\" must be a string, found {}", field_, kind));
    }
    return true;
  }
  bool fail(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  const std::string& field_;
  int depth_ = 0;
  bool wanted_ = false;
  std::optional<std::string> text_;
  std::string problem_;
};

}  // namespace

std::string json_text_field(std::string_view line, const std::string& field) {
  FieldReader reader(field);
  Json::sax_parse(line, &reader);
  return reader.take();
}

}  // namespace longspan::data
