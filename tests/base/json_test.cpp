#include "longspan/base/json.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "longspan/base/error.h"
#include "tests/support/temporary_directory.h"

namespace longspan::base {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

std::string refusal(const std::string& text, std::size_t max_bytes = kMaxJsonBytes) {
  try {
    parse_json(text, "f.json", max_bytes);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("JSON values of every kind are read") {
  const auto json = parse_json(
      R"({"b": [1, -2, 2.5, 1e3, true, null, [], {}], "a": {"c": "é\n\"q\"", "": 18446744073709551615}})",
      "f.json");
  CHECK(json.at("b").dump() == "[1,-2,2.5,1000.0,true,null,[],{}]");
  CHECK(json.at("a").at("c").get<std::string>() == "é\n\"q\"");
  CHECK(json.at("a").at("").get<std::uint64_t>() == 18446744073709551615ULL);
  CHECK(parse_json("  7 \n", "f.json") == 7);
  CHECK(parse_json("\xEF\xBB\xBF{}", "f.json").is_object());
}

TEST_CASE("JSON errors say where and what") {
  CHECK_THAT(refusal("{\"a\": 1\n \"b\": 2}"),
             StartsWith("f.json:2:2: not valid JSON: unexpected string literal; expected '}'"));
  CHECK_THAT(refusal("{\"a\": 1,}"), StartsWith("f.json:1:9:"));
  CHECK_THAT(refusal("{\"a\": 1,}"), Contains("remove the comma"));
  CHECK_THAT(refusal("{\"é\": nul}"), StartsWith("f.json:1:7: not valid JSON: invalid literal"));
  CHECK_THAT(refusal("{\"a\": 1"), Contains("f.json:1:8") && Contains("end of input"));
  CHECK_THAT(refusal("{} x"), StartsWith("f.json:1:4:") && Contains("expected end of input"));
  CHECK_THAT(refusal("{} {}"), StartsWith("f.json:1:4:"));
  CHECK_THAT(refusal("{// no\n}"), StartsWith("f.json:1:2:") && Contains("no comments"));
  CHECK_THAT(refusal("{\n# no\n}"), StartsWith("f.json:2:1:") && Contains("no comments"));
  CHECK_THAT(refusal("[NaN]"), StartsWith("f.json:1:2:") && Contains("at: NaN"));
  CHECK_THAT(refusal("[Infinity]"), StartsWith("f.json:1:2:"));
  CHECK_THAT(refusal("[1, 1e999]"), StartsWith("f.json:1:5:") && Contains("does not fit a double"));
  CHECK_THAT(refusal("[-1e999]"), Contains("does not fit a double"));
  CHECK_THAT(refusal("[01]"), StartsWith("f.json:1:2:"));
  CHECK_THAT(refusal("{'a': 1}"), StartsWith("f.json:1:2:"));
  CHECK_THAT(refusal("\"abc"), StartsWith("f.json:1:1:") && Contains("missing closing quote"));
  CHECK_THAT(refusal("[\"a\nb\"]"), StartsWith("f.json:1:4:") && Contains("control character"));
}

TEST_CASE("JSON that is empty or not UTF-8 is refused") {
  CHECK_THAT(refusal(""), StartsWith("f.json: empty"));
  CHECK_THAT(refusal(" \n\t\r\n"), StartsWith("f.json: empty"));
  CHECK_THAT(refusal("\xEF\xBB\xBF"), Contains("end of input"));
  CHECK_THAT(refusal("[\"a\xFF\"]"), StartsWith("f.json:1:4:") && Contains("UTF-8"));
  CHECK_THAT(refusal("[\"\xC3\"]"), Contains("UTF-8"));
  CHECK_THAT(refusal("\xFF\xFE{\0"), Contains("UTF-8"));
  CHECK_THAT(refusal(std::string("{\0}\0", 4)), StartsWith("f.json:1:2:") && Contains("UTF-8"));
  CHECK_THAT(refusal(std::string("{}\0x", 4)), StartsWith("f.json:1:3:") && Contains("UTF-8"));
}

TEST_CASE("JSON keys that appear twice are refused where the second stands") {
  CHECK_THAT(refusal("{\"a\": 1,\n  \"a\": 1}"), StartsWith("f.json:2:3: the key \"a\""));
  CHECK_THAT(refusal(R"({"x": {"q\"\\": 1, "q\"\\": 2}})"), StartsWith("f.json:1:20:"));
  CHECK_THAT(refusal(R"({"a": {"b": 1}, "c": {"b": 1}, "a": 2})"), StartsWith("f.json:1:32:"));
  CHECK(refusal(R"([{"a": 1}, {"a": 1, "b": {"a": 1}}])") == "accepted");
  const std::string key(100000, 'k');
  CHECK(refusal(fmt::format(R"({{"{0}":1,"{0}":1}})", key)).size() < 200);
}

TEST_CASE("JSON bombs are refused without harm") {
  CHECK(refusal(std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']')) == "accepted");
  CHECK_THAT(refusal(std::string(kMaxJsonDepth + 1, '[')),
             StartsWith("f.json:1:65:") && Contains("64 brackets"));
  CHECK_THAT(refusal(std::string(1000000, '[')), Contains("64 brackets"));
  std::string objects;
  for (int i = 0; i < 1000000; ++i) objects += "{\"a\":";
  CHECK_THAT(refusal(objects), Contains("64 brackets"));
  CHECK_THAT(refusal(fmt::format("\"{:a<{}}", "", std::size_t{100} << 20U)),
             StartsWith("f.json: 100 MiB of JSON, but at most 16.0 MiB"));
  CHECK(refusal(fmt::format("\"{:a<1000000}", "")).size() < 200);
  CHECK(refusal(std::string(1000000, 'a')).size() < 200);
  CHECK_THAT(refusal("[1, 2]", 5), Contains("at most 5 B"));
}

TEST_CASE("JSON files are read by name") {
  const longspan::test::TemporaryDirectory directory;
  const auto path = directory.path() / "a.json";
  std::ofstream(path) << R"({"a": [1]})";
  CHECK(read_json(path).at("a").at(0) == 1);
  CHECK_THROWS_WITH(read_json(path, 4), Contains("a.json") && Contains("at most 4 B"));
  CHECK_THROWS_WITH(read_json(directory.path() / "b.json"), Contains("b.json"));
  CHECK_THROWS_WITH(read_json(directory.path()), Contains("not a regular file"));
  std::ofstream(path, std::ios::trunc).close();
  CHECK_THROWS_AS(read_json(path), InputError);
}

}  // namespace longspan::base
