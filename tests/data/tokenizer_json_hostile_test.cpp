// tokenizer.json files that nobody should load: each is refused, with a message that says why.

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "data/hf/hf_tokenizer.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "tests/support/test_data.h"

namespace longspan::data {
namespace {

using Json = nlohmann::json;

/// A tokenizer of four ids that is legal.
Json legal() {
  return Json::parse(R"({
    "version": "1.0",
    "added_tokens": [{"id": 3, "content": "<e>", "special": true}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated"},
    "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "unk_token": "a", "vocab": {"a": 0, "b": 1, "ab": 2},
              "merges": ["a b"]}})");
}

std::string refusal(const std::string& text, const std::string& input = "") {
  try {
    hf::HfTokenizer(text, "t.json").encode(input);
  } catch (const base::InputError& error) {
    return error.what();
  }
  return "accepted";
}

/// The legal file with a value put at a path.
std::string changed(const std::string& path, const Json& value) {
  Json file = legal();
  file[Json::json_pointer(path)] = value;
  return refusal(file.dump(), "ab ba");
}

using Catch::Matchers::Contains;

TEST_CASE("the file that the others are made from is legal") {
  CHECK(refusal(legal().dump(), "ab ba") == "accepted");
  CHECK(hf::HfTokenizer(legal().dump(), "t.json").encode("abb") == std::vector<TokenId>{2, 1});
}

TEST_CASE("tokenizer.json: JSON bombs are refused") {
  CHECK_THAT(refusal(std::string(1000000, '[')), Contains("brackets"));
  std::string nested;
  for (int depth = 0; depth < 1000000; ++depth) nested += R"({"normalizers":[)";
  CHECK_THAT(refusal(nested), Contains("brackets"));
  CHECK_THAT(refusal("{\"version\": \"" + std::string(100000000, 'a') + "\"}"),
             Contains("at most 64.0 MiB"));
  CHECK_THAT(refusal(R"({"model": {}, "model": {}})"), Contains("twice"));
  CHECK_THAT(refusal(R"({"model": {"vocab": {"a": 0, "a": 1}}})"), Contains("twice"));
  CHECK_THAT(refusal(R"({"model": {"vocab": {"a": NaN}}})"), Contains("t.json:1:"));
  CHECK_THAT(refusal(R"({"model": {"vocab": {"a": 1e999}}})"), Contains("double"));
  CHECK_THAT(refusal(""), Contains("empty"));
  CHECK_THAT(refusal("[]"), Contains("object"));
  CHECK_THAT(refusal("{}"), Contains("model"));
  CHECK_THAT(refusal("{\"model\": null}"), Contains("model"));
  CHECK_THAT(refusal("\xff\xfe"), Contains("UTF-8"));
}

TEST_CASE("tokenizer.json: vocabularies that are none are refused by their place") {
  CHECK_THAT(changed("/model/vocab", Json::array()), Contains("model.vocab"));
  CHECK_THAT(changed("/model/vocab/a", -1), Contains("\"a\"") && Contains("integer in [0, 4)"));
  CHECK_THAT(changed("/model/vocab/a", 0.5), Contains("\"a\""));
  CHECK_THAT(changed("/model/vocab/a", "0"), Contains("\"a\""));
  CHECK_THAT(changed("/model/vocab/a", 18446744073709551615U), Contains("\"a\""));
  CHECK_THAT(changed("/model/vocab/a", 2147483648U), Contains("\"a\""));
  CHECK_THAT(changed("/model/vocab/b", 0), Contains("its id 0"));
  CHECK_THAT(changed("/added_tokens/0/id", 9), Contains("<e>") && Contains("9"));
  CHECK_THAT(changed("/added_tokens/0/id", 0), Contains("<e>"));
  CHECK_THAT(changed("/added_tokens/0/id", -1), Contains("added_tokens[0].id"));
  CHECK_THAT(changed("/added_tokens/0/id", 1e300), Contains("added_tokens[0].id"));
  CHECK_THAT(changed("/added_tokens/0/content", ""), Contains("added_tokens[0].content"));
  CHECK_THAT(changed("/added_tokens/0/content", std::string(5000, 'x')), Contains("1024"));
  CHECK_THAT(changed("/added_tokens/0/lstrip", 1), Contains("added_tokens[0].lstrip"));
  CHECK_THAT(changed("/added_tokens/1", legal()["added_tokens"][0]), Contains("twice"));
  CHECK_THAT(changed("/model/vocab", Json{{"a", 0}, {"b", 1}, {"ab", 2}, {"x", 3}}),
             Contains("<e>"));
  CHECK_THAT(changed("/model/unk_token", "?"), Contains("model.unk_token"));
}

TEST_CASE("tokenizer.json: merges that are none are refused by their place") {
  for (const Json& merge :
       {Json("a"), Json("a b c"), Json("a c"), Json("b a"), Json(" b"), Json(3), Json(nullptr),
        Json::array({"a"}), Json::array({"a", 1}), Json::array({"a", "b", "c"}),
        Json::array({"", "ab"}), Json::object()}) {
    CAPTURE(merge.dump());
    CHECK_THAT(changed("/model/merges/0", merge), Contains("model.merges[0]"));
  }
  CHECK_THAT(changed("/model/merges/1", "a b"), Contains("model.merges[1]") && Contains("before"));
  CHECK_THAT(changed("/model/merges", Json::object()), Contains("model.merges"));
}

TEST_CASE("tokenizer.json: what is not supported is refused by its name") {
  CHECK_THAT(changed("/model/type", "Unigram"), Contains("Unigram") && Contains(".model"));
  CHECK_THAT(changed("/model/type", "WordPiece"), Contains("WordPiece"));
  CHECK_THAT(changed("/model/dropout", 0.1), Contains("model.dropout"));
  CHECK_THAT(changed("/model/end_of_word_suffix", "</w>"), Contains("end_of_word_suffix"));
  CHECK_THAT(changed("/model/new_key", 1), Contains("new_key"));
  CHECK_THAT(changed("/new_key", 1), Contains("new_key"));
  CHECK_THAT(changed("/normalizer/type", "Lowercase"), Contains("Lowercase"));
  CHECK_THAT(changed("/pre_tokenizer/type", "BertPreTokenizer"), Contains("BertPreTokenizer"));
  CHECK_THAT(changed("/pre_tokenizer/behavior", "Sideways"), Contains("Sideways"));
  CHECK_THAT(changed("/decoder/type", "WordPiece"), Contains("WordPiece"));
  CHECK_THAT(changed("/post_processor", Json{{"type", "Other"}}), Contains("Other"));
  const Json byte_level = {{"type", "ByteLevel"}};
  CHECK_THAT(changed("/pre_tokenizer",
                     Json{{"type", "Sequence"}, {"pretokenizers", {byte_level, byte_level}}}),
             Contains("behind ByteLevel"));
  CHECK_THAT(changed("/pre_tokenizer", Json{{"type", "Metaspace"}, {"replacement", "__"}}),
             Contains("replacement"));
}

TEST_CASE("tokenizer.json: patterns that the reference reads otherwise are refused") {
  const auto with = [](const std::string& pattern, const std::string& input = "ab") {
    Json file = legal();
    file["pre_tokenizer"]["pattern"]["Regex"] = pattern;
    return refusal(file.dump(), input);
  };
  CHECK_THAT(with("("), Contains("pre_tokenizer.pattern.Regex"));
  CHECK_THAT(with("[z-a]"), Contains("pre_tokenizer.pattern.Regex"));
  CHECK_THAT(with("a{99999999}"), Contains("pre_tokenizer.pattern.Regex"));
  CHECK_THAT(with("a*"), Contains("empty"));
  CHECK_THAT(with(""), Contains("empty"));
  for (const std::string pattern :
       {"\\w+", "\\bx", "\\h", "x$", "^x", "\\p{Han}", "\\p{Script=Greek}", "[a[bc]]", "[a&&b]",
        "(?<name>x)", "(?R)x", "(?i)x", "(*UTF)x", "\\Kx", "\\Cx", "\\1(x)", "x{1,2}+",
        "\\u0041"}) {
    CAPTURE(pattern);
    CHECK_THAT(with(pattern), Contains("not supported"));
  }
  CHECK_THAT(with(std::string(100000, 'a')), Contains("16384"));
  CHECK_THAT(with(std::string(5000, '(') + "a" + std::string(5000, ')')), Contains("t.json"));
  // Patterns whose search does not end are stopped.
  CHECK_THAT(with("(?:a+)+c", std::string(60, 'a') + "dc"), Contains("fails at byte 0"));
}

TEST_CASE("tokenizer.json: steps that would fill memory are stopped") {
  const Json doubles = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  CHECK_THAT(changed("/normalizer",
                     Json{{"type", "Sequence"}, {"normalizers", std::vector<Json>(40, doubles)}}),
             Contains("normalizer makes"));
  CHECK_THAT(changed("/normalizer",
                     Json{{"type", "Sequence"}, {"normalizers", std::vector<Json>(1000, doubles)}}),
             Contains("64 steps"));
  CHECK_THAT(
      changed("/decoder", Json{{"type", "Sequence"}, {"decoders", std::vector<Json>(40, doubles)}}),
      Contains("decoder makes"));
  CHECK_THAT(changed("/normalizer", Json{{"type", "Prepend"}, {"prepend", std::string(1000, 'x')}}),
             Contains("normalizer.prepend"));
  const Json split = legal()["pre_tokenizer"];
  CHECK_THAT(changed("/pre_tokenizer",
                     Json{{"type", "Sequence"}, {"pretokenizers", std::vector<Json>(1000, split)}}),
             Contains("64 steps"));
}

TEST_CASE("a character without a token is refused when there is none for what is unknown") {
  Json file = legal();
  file["model"]["unk_token"] = nullptr;
  CHECK(refusal(file.dump(), "abab") == "accepted");
  CHECK_THAT(refusal(file.dump(), "abc"), Contains("cannot tokenize \"c\""));
  CHECK_THAT(refusal(file.dump(), "ab\xff"), Contains("cannot tokenize \"\\xff\""));
}

TEST_CASE("a damaged tokenizer.json is refused or still works, but never crashes") {
  const std::string whole =
      base::read_text(test::data_folder() / "data" / "tokenizers" / "qwen.json");
  std::mt19937 random(5);
  int refused = 0;
  for (int round = 0; round < 200; ++round) {
    std::string damaged = whole;
    if (round % 2 == 0) {
      damaged.resize(random() % whole.size());
    } else {
      // At the front, where the steps are, and everywhere.
      const std::size_t at = random() % (round % 4 == 1 ? 2000 : whole.size());
      damaged[at] ^= static_cast<char>(1U << (random() % 8));
    }
    refused += refusal(damaged, "the light of heaven, 12345") == "accepted" ? 0 : 1;
  }
  CHECK(refused >= 100);
}

}  // namespace
}  // namespace longspan::data
