// Token files without a list of documents: llm.c's and nanoGPT's.
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/data/joined_token_file.h"
#include "longspan/data/token_file.h"
#include "tests/support/temporary_directory.h"

namespace longspan::data {
namespace {

using longspan::test::TemporaryDirectory;

template <typename Stored>
std::string bytes_of(const std::vector<Stored>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Stored)};
}

std::string llmc(std::int32_t magic, std::int32_t version, std::int32_t count,
                 const std::string& tokens) {
  std::vector<std::int32_t> header(256, 0);
  header[0] = magic;
  header[1] = version;
  header[2] = count;
  return bytes_of(header) + tokens;
}

const std::vector<std::uint16_t> kTokens = {50256, 7, 8, 50256, 9, 40000};

std::vector<std::int64_t> begins_of(const TokenFile& file) {
  std::vector<std::int64_t> begins;
  for (std::int64_t d = 0; d <= file.documents(); ++d) begins.push_back(file.document_begin(d));
  return begins;
}

TEST_CASE("llm.c's files are read in both widths, nanoGPT's when their type is said") {
  const TemporaryDirectory directory;
  const std::vector<std::uint32_t> wide(kTokens.begin(), kTokens.end());
  const std::vector<std::pair<std::string, FlatTokens>> files = {
      {llmc(20240520, 1, 6, bytes_of(kTokens)), {}},
      {llmc(20240801, 7, 6, bytes_of(wide)), {}},
      {bytes_of(kTokens), {"uint16", -1}},
      {bytes_of(wide), {"uint32", -1}},
  };
  for (const auto& [contents, flat] : files) {
    const std::string path = directory.write("train.bin", contents);
    const auto whole = TokenFile::open(path, flat);
    CHECK(whole->tokens() == 6);
    CHECK(begins_of(*whole) == std::vector<std::int64_t>{0, 6});
    CHECK(whole->document_bytes(0) == -1);
    CHECK(whole->tokenizer_hash().empty());
    std::vector<TokenId> tokens(5);
    whole->read(1, 6, tokens.data());
    CHECK(tokens == std::vector<TokenId>{7, 8, 50256, 9, 40000});
    CHECK_NOTHROW(whole->check_range(50257, 0, 1));
    CHECK_THROWS_WITH(whole->check_range(50256, 0, 1), Catch::Contains("token 50256 at place 0"));
    const auto divided = open_token_files({path}, {flat.type, 50256});
    CHECK(begins_of(*divided) == std::vector<std::int64_t>{0, 1, 4, 6});
  }
}

TEST_CASE("documents of a flat file end behind their last token, found in every block") {
  const TemporaryDirectory directory;
  std::vector<std::uint16_t> many((1U << 20U) * 2 + 10, 5);
  for (const std::size_t place : {0U, 1048575U, 1048576U, 2097161U}) many[place] = 3;
  const auto file = TokenFile::open(directory.write("many.bin", bytes_of(many)), {"uint16", 3});
  CHECK(begins_of(*file) == std::vector<std::int64_t>{0, 1, 1048576, 1048577, 2097162});
  const auto none = TokenFile::open(directory.write("none.bin", ""), {"uint16", 3});
  CHECK(none->documents() == 0);
  CHECK(none->tokens() == 0);
}

TEST_CASE("an index beside a .bin makes it Megatron's, whatever is in it") {
  const TemporaryDirectory directory;
  directory.write("train.idx", "x");
  const std::string path = directory.write("train.bin", llmc(20240520, 1, 6, bytes_of(kTokens)));
  CHECK_THROWS_WITH(TokenFile::open(path), Catch::Contains("Megatron index"));
}

TEST_CASE("hostile flat files are refused when they are opened") {
  const TemporaryDirectory directory;
  const std::string tokens = bytes_of(kTokens);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "data.raw_type"},
      {"x", "data.raw_type"},
      {tokens, "data.raw_type"},
      {llmc(20240522, 1, 6, tokens), "evaluation"},
      {llmc(20240520, 1, 6, tokens).substr(0, 4), "too few"},
      {llmc(20240520, 1, 6, tokens).substr(0, 1023), "too few"},
      {llmc(20240520, 2, 6, tokens), "version is 2"},
      {llmc(20240520, 7, 6, tokens), "version is 7"},
      {llmc(20240801, 1, 6, tokens), "version is 1"},
      {llmc(20240520, 1, 5, tokens), "says 5 tokens"},
      {llmc(20240520, 1, 7, tokens), "says 7 tokens"},
      {llmc(20240520, 1, -1, tokens), "says -1 tokens"},
      {llmc(20240520, 1, INT32_MAX, tokens), "says 2147483647 tokens"},
      {llmc(20240520, 1, 6, tokens + "x"), "bytes follow"},
      {llmc(20240801, 7, 6, tokens), "says 6 tokens of 4 bytes"},
      {llmc(20240801, 7, 1073741824, ""), "says 1073741824 tokens"},
  };
  for (const auto& [contents, message] : cases) {
    CAPTURE(message);
    const std::string path = directory.write("bad.bin", contents);
    CHECK_THROWS_AS(TokenFile::open(path), base::InputError);
    CHECK_THROWS_WITH(TokenFile::open(path),
                      Catch::Contains(message) && Catch::Contains("bad.bin"));
  }
  const std::string odd = directory.write("odd.bin", "12345");
  CHECK_THROWS_WITH(TokenFile::open(odd, {"uint16", -1}), Catch::Contains("no whole number"));
  CHECK_THROWS_WITH(TokenFile::open(odd, {"uint32", -1}), Catch::Contains("no whole number"));
}

TEST_CASE("a token beyond 31 bits of a flat file is out of every range") {
  const TemporaryDirectory directory;
  const std::vector<std::uint32_t> wide = {1, 2, 0xffffffffU};
  const auto file = TokenFile::open(directory.write("wide.bin", bytes_of(wide)), {"uint32", -1});
  CHECK_THROWS_WITH(file->check_range(INT32_MAX, 0, 1), Catch::Contains("place 2"));
}

}  // namespace
}  // namespace longspan::data
