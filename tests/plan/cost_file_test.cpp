#include "longspan/plan/cost_file.h"

#include <catch2/catch.hpp>
#include <string>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "tests/support/temporary_directory.h"

namespace longspan::plan {
namespace {

using Catch::Matchers::Contains;

CostModel example() {
  CostModel costs;
  costs.ranks = 8;
  costs.micro_batch_seconds = 1.0 / 3.0;
  costs.source = "measured \"here\"";
  costs.kinds.push_back({1, "", 0.1, 2e-5 / 3, 1e-12 / 7, 4096});
  costs.kinds.push_back({1, "block", 0.1, 3e-5, 0, 123456789012});
  costs.kinds.push_back({8, "", 0, 0, 5e-10, 1});
  return costs;
}

/// The example with one text put for another, which must be there once.
std::string changed(const std::string& from, const std::string& to) {
  std::string text = to_json(example());
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

void refuse(const std::string& text, const std::string& message) {
  INFO(text);
  CHECK_THROWS_WITH(parse_cost_file(text, "costs.json"), Contains(message));
  CHECK_THROWS_AS(parse_cost_file(text, "costs.json"), base::InputError);
}

TEST_CASE("A cost file reads back as it was written, to the last bit") {
  const CostModel costs = example();
  const test::TemporaryDirectory directory;
  base::replace_file(directory.path() / "costs.json", to_json(costs));
  const CostModel read = read_cost_file(directory.path() / "costs.json");
  CHECK(read.ranks == costs.ranks);
  CHECK(read.micro_batch_seconds == costs.micro_batch_seconds);
  CHECK(read.source == costs.source);
  REQUIRE(read.kinds.size() == costs.kinds.size());
  for (std::size_t i = 0; i < costs.kinds.size(); ++i) {
    CHECK(read.kinds[i].degree == costs.kinds[i].degree);
    CHECK(read.kinds[i].level == costs.kinds[i].level);
    CHECK(read.kinds[i].fixed_seconds == costs.kinds[i].fixed_seconds);
    CHECK(read.kinds[i].seconds_per_token == costs.kinds[i].seconds_per_token);
    CHECK(read.kinds[i].seconds_per_token_squared == costs.kinds[i].seconds_per_token_squared);
    CHECK(read.kinds[i].max_tokens == costs.kinds[i].max_tokens);
  }
}

TEST_CASE("What a cost file may leave out") {
  const CostModel costs = parse_cost_file(
      R"({"ranks": 1, "micro_batch_seconds": 0, "kinds": [{"degree": 1, "fixed_seconds": 0,
          "seconds_per_token": 1e-6, "seconds_per_token_squared": 0, "max_tokens": 1e4}]})",
      "costs.json");
  CHECK(costs.source.empty());
  CHECK(costs.kinds.at(0).level.empty());
  CHECK(costs.kinds.at(0).max_tokens == 10000);
}

TEST_CASE("Hostile cost files are refused with the place and what is legal") {
  refuse("", "empty");
  refuse("[1, 2]", "expected an object");
  refuse("{\"ranks\": 1", "not valid JSON");
  refuse("{}", "required but missing: ranks");
  refuse(R"({"ranks": 1, "micro_batch_seconds": 0})", "\"kinds\" must be a list");
  refuse(R"({"ranks": 1, "micro_batch_seconds": 0, "kinds": []})", "\"kinds\" must be a list");
  refuse(R"({"ranks": 1, "micro_batch_seconds": 0, "kinds": {}})", "\"kinds\" must be a list");
  refuse(R"({"ranks": 1, "micro_batch_seconds": 0, "kinds": [7]})", "kinds[0]: found 7");
  refuse(changed("\"ranks\": 8", "\"ranks\": 0"), "ranks is 0");
  refuse(changed("\"ranks\": 8", "\"ranks\": 4.5"), "ranks is 4.5");
  refuse(changed("\"ranks\": 8", "\"ranks\": 1e18"), "ranks is");
  refuse(changed("\"ranks\": 8", "\"ranks\": 4"), "kinds[2]: degree is 8");
  refuse(changed("\"ranks\": 8", "\"ranks\": 8, \"speed\": 1"), "speed");
  refuse(changed("\"degree\": 8", "\"degree\": 3"), "kinds[2]: degree is 3; legal: a power of two");
  refuse(changed("\"degree\": 8", "\"degree\": -1"), "degree is -1");
  refuse(changed("\"level\": \"block\"", "\"level\": \"\""),
         "kinds[1]: degree and level are those of kinds[0]");
  refuse(changed("\"level\": \"block\"", "\"level\": 2"), "kinds[1]: level is 2");
  refuse(changed("\"max_tokens\": 1\n", "\"max_tokens\": 0\n"), "kinds[2]: max_tokens is 0");
  refuse(changed("\"max_tokens\": 1\n", "\"max_tokens\": 1e300\n"), "max_tokens is");
  refuse(changed("\"max_tokens\": 1\n", "\"max_token\": 1\n"), "did you mean max_tokens");
  refuse(changed("\"fixed_seconds\": 0.1", "\"fixed_seconds\": -0.1"), "fixed_seconds is -0.1");
  refuse(changed("\"fixed_seconds\": 0.1", "\"fixed_seconds\": 1e999"), "does not fit a double");
  refuse(changed("\"fixed_seconds\": 0.1", "\"fixed_seconds\": null"), "fixed_seconds is null");
  refuse(changed("5e-10", "0"), "kinds[2]: fixed_seconds, seconds_per_token and");
}

}  // namespace
}  // namespace longspan::plan
