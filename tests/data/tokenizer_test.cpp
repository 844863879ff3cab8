#include "longspan/data/tokenizer.h"

#include <catch2/catch.hpp>

#include "longspan/base/error.h"
#include "tests/support/temporary_directory.h"

namespace longspan::data {
namespace {

using longspan::test::TemporaryDirectory;

std::string all_bytes() {
  std::string text;
  for (int byte = 0; byte < 256; ++byte) text.push_back(static_cast<char>(byte));
  return text;
}

TEST_CASE("byte ids are laid out as in ByT5") {
  const auto tokenizer = load_tokenizer("bytes");
  CHECK(tokenizer->name() == "bytes");
  CHECK(tokenizer->vocab_size() == 259);
  CHECK(tokenizer->bos_id() == 1);
  CHECK(tokenizer->eos_id() == 1);
  CHECK(tokenizer->encode("Hi\xc3\xa9") == std::vector<TokenId>{75, 108, 198, 172});
  CHECK(tokenizer->encode("").empty());
}

TEST_CASE("bytes come back, control ids give nothing, ids out of range are refused") {
  const auto tokenizer = load_tokenizer("bytes");
  CHECK(tokenizer->decode(tokenizer->encode(all_bytes())) == all_bytes());
  CHECK(tokenizer->decode({1, 75, 0, 2, 108, 1}) == "Hi");
  CHECK_THROWS_AS(tokenizer->decode({259}), base::InputError);
  CHECK_THROWS_AS(tokenizer->decode({-1}), base::InputError);
}

TEST_CASE("a saved byte tokenizer loads as the same") {
  const TemporaryDirectory directory;
  const auto tokenizer = load_tokenizer("bytes");
  tokenizer->save(directory.path() / "new");
  const auto loaded = load_tokenizer(directory.file("new"));
  CHECK(loaded->name() == "bytes");
  CHECK(loaded->hash() == tokenizer->hash());
  CHECK(loaded->hash().size() == 32);
}

TEST_CASE("what is no tokenizer is refused by name") {
  const TemporaryDirectory directory;
  const std::string junk = directory.write("junk.model", "this is no model");
  directory.write("other/tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer"})");
  directory.write("extra/tokenizer_config.json",
                  R"({"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125})");
  directory.write("broken/tokenizer_config.json", "{");
  std::filesystem::create_directory(directory.path() / "empty");
  for (const std::string name : {"junk.model", "other", "extra", "broken", "empty", "absent"}) {
    CAPTURE(name);
    CHECK_THROWS_WITH(load_tokenizer(directory.file(name)), Catch::Contains(directory.file(name)));
    CHECK_THROWS_AS(load_tokenizer(directory.file(name)), base::InputError);
  }
}

}  // namespace
}  // namespace longspan::data
