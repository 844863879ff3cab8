#include "longspan/data/token_file.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <functional>

#include "longspan/base/error.h"
#include "longspan/data/joined_token_file.h"
#include "longspan/data/token_file_writer.h"
#include "tests/support/temporary_directory.h"

namespace longspan::data {
namespace {

using longspan::test::TemporaryDirectory;

const std::string kHash = "0123456789abcdef0123456789abcdef";
using Documents = std::vector<std::vector<TokenId>>;

std::string write_tokens(const std::string& path, const Documents& documents,
                         std::int64_t vocab_size, TokenFormat format = TokenFormat::kTokens) {
  const auto writer = TokenFileWriter::create(path, format, vocab_size, kHash);
  for (const auto& document : documents) {
    writer->add_document(document, 3 * static_cast<std::int64_t>(document.size()));
  }
  writer->finish();
  return path;
}

Documents read_documents(const TokenFile& file) {
  Documents documents;
  for (std::int64_t document = 0; document < file.documents(); ++document) {
    const std::int64_t begin = file.document_begin(document);
    const std::int64_t end = file.document_begin(document + 1);
    documents.emplace_back(static_cast<std::size_t>(end - begin));
    file.read(begin, end, documents.back().data());
  }
  return documents;
}

template <typename Value>
void set(std::string& bytes, std::size_t at, Value value) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

/// Makes the hash right again after a change, as an attacker would.
void seal(std::string& bytes) {
  std::uint64_t index = 0;
  std::memcpy(&index, bytes.data() + 72, sizeof(index));
  const std::string hashed = bytes.substr(0, 80) + bytes.substr(std::min(index, bytes.size()));
  bytes.replace(80, 32, base::xxh3_hex(hashed.data(), hashed.size()));
}

const Documents kDocuments = {{5, 6, 7}, {}, {8}, {9, 10, 11, 12, 258}};

TEST_CASE("a token file gives back what was written") {
  const TemporaryDirectory directory;
  for (const std::int64_t vocab_size : {259, 65536, 65537, 2000000000}) {
    const auto format = GENERATE(TokenFormat::kTokens, TokenFormat::kMegatron);
    const bool megatron = format == TokenFormat::kMegatron;
    CAPTURE(vocab_size, megatron);
    Documents documents = kDocuments;
    documents.push_back({static_cast<TokenId>(vocab_size - 1), 0});
    const auto file = TokenFile::open(write_tokens(directory.file(megatron ? "a.idx" : "a.tokens"),
                                                   documents, vocab_size, format));
    CHECK(read_documents(*file) == documents);
    CHECK(file->tokens() == 11);
    CHECK(file->document_bytes(3) == (megatron ? -1 : 15));
    CHECK(file->tokenizer_hash() == (megatron ? "" : kHash));
    file->check_range(vocab_size, 0, 1);
  }
  CHECK(TokenFile::open(write_tokens(directory.file("none.tokens"), {}, 5))->documents() == 0);
}

TEST_CASE("the layout of a token file is the documented one") {
  const TemporaryDirectory directory;
  const std::string bytes =
      base::read_text(write_tokens(directory.file("a.tokens"), {{5, 258}, {7}}, 259));
  std::string expected = "LSTOKENS";
  const auto add = [&](std::uint64_t value, std::size_t width) {
    for (std::size_t byte = 0; byte < width; ++byte) {
      expected.push_back(static_cast<char>(value >> (8 * byte)));
    }
  };
  add(1, 4);    // version
  add(2, 4);    // bytes a token
  add(259, 8);  // vocabulary
  add(3, 8);    // tokens
  add(2, 8);    // documents
  expected += kHash;
  add(192, 8);                        // begin of the index
  expected += std::string(48, '\0');  // hash and reserved
  for (const int token : {5, 258, 7}) add(static_cast<std::uint64_t>(token), 2);
  expected.resize(192, '\0');
  for (const int number : {0, 2, 3, 6, 3}) add(static_cast<std::uint64_t>(number), 8);
  seal(expected);
  CHECK((bytes == expected));
}

TEST_CASE("a token file that is cut off anywhere is refused") {
  const TemporaryDirectory directory;
  const std::string bytes =
      base::read_text(write_tokens(directory.file("a.tokens"), kDocuments, 259));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CAPTURE(size);
    const std::string path = directory.write("cut.tokens", bytes.substr(0, size));
    CHECK_THROWS_AS(TokenFile::open(path), base::InputError);
    CHECK_THROWS_WITH(TokenFile::open(path), Catch::Contains("cut.tokens"));
  }
  CHECK_THROWS_AS(TokenFile::open(directory.write("long.tokens", bytes + "x")), base::InputError);
}

TEST_CASE("every flipped bit of header and index is found") {
  const TemporaryDirectory directory;
  const std::string bytes =
      base::read_text(write_tokens(directory.file("a.tokens"), kDocuments, 259));
  for (std::size_t at = 0; at < bytes.size(); at += at == 111 ? 81 : 1) {  // all but the tokens
    CAPTURE(at);
    std::string damaged = bytes;
    damaged[at] ^= static_cast<char>(1U << (at % 8));
    CHECK_THROWS_AS(TokenFile::open(directory.write("bad.tokens", damaged)), base::InputError);
  }
}

TEST_CASE("a hostile token file with a right hash is refused") {
  const TemporaryDirectory directory;
  const std::string bytes =
      base::read_text(write_tokens(directory.file("a.tokens"), kDocuments, 259));
  constexpr std::size_t kIndex = 192;
  constexpr std::uint64_t kHuge = 0xfffffffffffffff0U;
  const std::vector<std::pair<const char*, std::function<void(std::string&)>>> faults = {
      {"LSTOKENS", [](std::string& file) { file[0] = 'X'; }},
      {"version is 3", [](std::string& file) { set<std::uint32_t>(file, 8, 3); }},
      {"cut off", [](std::string& file) { set<std::uint32_t>(file, 8, 2); }},
      {"3 bytes a token", [](std::string& file) { set<std::uint32_t>(file, 12, 3); }},
      {"index is said", [](std::string& file) { set<std::uint64_t>(file, 24, 40); }},
      {"vocabulary of 0", [](std::string& file) { set<std::uint64_t>(file, 16, 0); }},
      {"vocabulary of 65537", [](std::string& file) { set<std::uint64_t>(file, 16, 65537); }},
      {"do not fit", [](std::string& file) { set<std::uint64_t>(file, 24, kHuge); }},
      {"do not fit", [](std::string& file) { set<std::uint64_t>(file, 32, kHuge / 8); }},
      {"expected 0 to 8", [](std::string& file) { set<std::uint64_t>(file, 24, 8); }},
      {"found 264", [](std::string& file) { set<std::uint64_t>(file, 32, 3); }},
      {"index is said", [](std::string& file) { set<std::uint64_t>(file, 72, kHuge); }},
      {"span tokens 1", [](std::string& file) { set<std::uint64_t>(file, kIndex, 1); }},
      {"before its begin", [](std::string& file) { set<std::uint64_t>(file, kIndex + 8, 4); }},
      {"before its begin", [](std::string& file) { set<std::uint64_t>(file, kIndex + 16, kHuge); }},
      {"before its begin",
       [](std::string& file) { set<std::uint64_t>(file, kIndex + 16, 1U << 30U); }},
      {"bytes of text", [](std::string& file) { set<std::uint64_t>(file, kIndex + 40, kHuge); }},
  };
  for (const auto& [message, damage] : faults) {
    CAPTURE(message);
    std::string damaged = bytes;
    damage(damaged);
    seal(damaged);
    const std::string path = directory.write("bad.tokens", damaged);
    CHECK_THROWS_AS(TokenFile::open(path), base::InputError);
    CHECK_THROWS_WITH(TokenFile::open(path), Catch::Contains(message));
  }
}

/// Documents of 3, 0, 1, 5 and 2 tokens; all of the first and the last are to be predicted.
std::string write_masked(const std::string& path) {
  const auto writer = TokenFileWriter::create(path, TokenFormat::kTokens, 259, kHash);
  writer->add_document(kDocuments[0], 9);
  writer->add_document(kDocuments[1], 0);
  writer->add_masked_document({kDocuments[2], {}}, 3);
  writer->add_masked_document({kDocuments[3], {{0, 2}, {4, 5}}}, 15);
  writer->add_document({1, 2}, 2);
  writer->finish();
  return path;
}

using Ranges = std::vector<TokenRange>;

TEST_CASE("a token file says which tokens are to be predicted") {
  const TemporaryDirectory directory;
  const auto file = TokenFile::open(write_masked(directory.file("a.tokens")));
  CHECK(read_documents(*file) == Documents{{5, 6, 7}, {}, {8}, {9, 10, 11, 12, 258}, {1, 2}});
  CHECK(file->is_masked());
  CHECK(file->loss_ranges(0, 11) == Ranges{{0, 3}, {4, 6}, {8, 9}, {9, 11}});
  CHECK(file->loss_tokens(0, 11) == 8);
  for (std::int64_t begin = 0; begin <= 11; ++begin) {
    for (std::int64_t end = begin; end <= 11; ++end) {
      std::int64_t count = 0;
      std::int64_t previous = begin;
      for (const TokenRange& range : file->loss_ranges(begin, end)) {
        CHECK((range.begin >= previous && range.begin < range.end && range.end <= end));
        previous = range.end;
        count += range.end - range.begin;
      }
      std::int64_t expected = 0;
      for (std::int64_t at = begin; at < end; ++at)
        expected += at == 3 || at == 6 || at == 7 ? 0 : 1;
      CHECK(count == expected);
      CHECK(file->loss_tokens(begin, end) == expected);
    }
  }
  // Without a masked document it is a file of version 1, of which all count.
  const auto plain = TokenFile::open(write_tokens(directory.file("b.tokens"), kDocuments, 259));
  CHECK_FALSE(plain->is_masked());
  CHECK(plain->loss_ranges(1, 9) == Ranges{{1, 9}});
  CHECK(plain->loss_ranges(4, 4).empty());
  CHECK(plain->loss_tokens(0, 9) == 9);
}

TEST_CASE("the layout of a token file with ranges is the documented one") {
  const TemporaryDirectory directory;
  const std::string bytes = base::read_text(write_masked(directory.file("a.tokens")));
  std::string expected;
  for (const int number : {0, 3, 3, 4, 9, 11, 9, 0, 3, 15, 2, 4, 0, 3, 4, 6, 8, 9, 9, 11}) {
    expected.push_back(static_cast<char>(number));
    expected.append(7, '\0');
  }
  CHECK(bytes[8] == 2);
  CHECK((bytes.substr(192) == expected));
  std::string sealed = bytes;
  seal(sealed);
  CHECK((sealed == bytes));
}

TEST_CASE("a token file with ranges is refused when cut off, damaged or hostile") {
  const TemporaryDirectory directory;
  const std::string bytes = base::read_text(write_masked(directory.file("a.tokens")));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CAPTURE(size);
    std::string cut = bytes.substr(0, size);
    if (size >= 192) seal(cut);
    CHECK_THROWS_AS(TokenFile::open(directory.write("cut.tokens", cut)), base::InputError);
  }
  for (std::size_t at = 192; at < bytes.size(); ++at) {
    CAPTURE(at);
    std::string damaged = bytes;
    damaged[at] ^= static_cast<char>(1U << (at % 8));
    CHECK_THROWS_WITH(TokenFile::open(directory.write("bad.tokens", damaged)),
                      Catch::Contains("damaged") || Catch::Contains("do not fit"));
  }
  constexpr std::size_t kRanges = 192 + 8 * 12;  // the first range; their number is before it
  constexpr std::uint64_t kHuge = 0xfffffffffffffff0U;
  const std::vector<std::tuple<const char*, std::size_t, std::uint64_t>> faults = {
      {"do not fit", kRanges - 8, kHuge},
      {"do not fit", kRanges - 8, kHuge / 16},
      {"cut off", kRanges - 8, 3},
      {"cut off", kRanges - 8, 5},
      {"range 0 ", kRanges, kHuge},              // below 0
      {"range 0 ", kRanges, 3},                  // empty
      {"range 0 ", kRanges + 8, 4},              // into the next document
      {"range 1 ", kRanges + 16, 2},             // before the end of the one before
      {"range 1 ", kRanges + 24, 4},             // empty
      {"range 3 ", kRanges + 56, 12},            // behind the last token
      {"range 3 ", kRanges + 56, kHuge / 2},     // far behind it
      {"range 3 ", kRanges + 48, kHuge / 2 - 1}  // a begin there
  };
  for (const auto& [message, at, value] : faults) {
    CAPTURE(message, at, value);
    std::string damaged = bytes;
    set<std::uint64_t>(damaged, at, value);
    seal(damaged);
    CHECK_THROWS_WITH(TokenFile::open(directory.write("bad.tokens", damaged)),
                      Catch::Contains(message));
  }
}

TEST_CASE("of files opened together some say what is to be predicted, of the others all is") {
  const TemporaryDirectory directory;
  const std::string plain = write_tokens(directory.file("1.tokens"), {{1, 2}, {3}}, 100);
  const std::string masked = write_masked(directory.file("2.tokens"));
  const auto file = open_token_files({plain, masked, plain});
  CHECK(file->is_masked());
  CHECK(file->tokens() == 17);
  CHECK(file->loss_tokens(0, 17) == 14);
  CHECK(file->loss_ranges(1, 16) == Ranges{{1, 3}, {3, 6}, {7, 9}, {11, 12}, {12, 14}, {14, 16}});
  CHECK_FALSE(open_token_files({plain, plain})->is_masked());
}

TEST_CASE("a writer refuses ranges that the file could not hold") {
  const TemporaryDirectory directory;
  const auto writer =
      TokenFileWriter::create(directory.file("a.tokens"), TokenFormat::kTokens, 10, "");
  for (const Ranges& ranges :
       {Ranges{{-1, 1}}, Ranges{{1, 1}}, Ranges{{1, 3}}, Ranges{{1, 2}, {0, 1}}}) {
    CHECK_THROWS_AS(writer->add_masked_document({{1, 2}, ranges}, 2), base::InternalError);
  }
  const auto megatron =
      TokenFileWriter::create(directory.file("b.bin"), TokenFormat::kMegatron, 10, "");
  CHECK_THROWS_WITH(megatron->add_masked_document({{1, 2}, {{0, 1}}}, 2),
                    Catch::Contains("--format tokens"));
}

TEST_CASE("the first token out of range is named, by whichever part reads it") {
  const TemporaryDirectory directory;
  Documents documents(2, std::vector<TokenId>(300000, 4));
  documents[1][150000] = 600;
  documents[1][299999] = 700;
  const auto file = TokenFile::open(write_tokens(directory.file("a.tokens"), documents, 1000));
  file->check_range(701, 0, 1);
  CHECK_THROWS_AS(file->check_range(600, 0, 1), base::InputError);
  CHECK_THROWS_WITH(
      file->check_range(600, 0, 1),
      Catch::Contains("token 600 at place 450000 (of document 1, its token 150000)") &&
          Catch::Contains("a.tokens"));
  for (const int parts : {1, 2, 7, 100}) {
    int found = 0;
    for (int part = 0; part < parts; ++part) {
      try {
        file->check_range(650, part, parts);
      } catch (const base::InputError&) {
        ++found;
      }
    }
    CHECK(found == 1);
  }
}

TEST_CASE("files opened together are one corpus") {
  const TemporaryDirectory directory;
  const std::string first = write_tokens(directory.file("1.tokens"), {{1, 2}, {3}}, 100);
  const std::string empty = write_tokens(directory.file("2.tokens"), {}, 100);
  const std::string last =
      write_tokens(directory.file("3.bin"), {{}, {4, 5}, {90}}, 100, TokenFormat::kMegatron);
  const auto file = open_token_files({first, empty, last});
  CHECK(read_documents(*file) == Documents{{1, 2}, {3}, {}, {4, 5}, {90}});
  CHECK(file->tokens() == 6);
  CHECK(file->document_bytes(1) == 3);
  CHECK(file->document_bytes(4) == -1);
  CHECK(file->tokenizer_hash() == kHash);
  CHECK_THROWS_WITH(file->check_range(90, 0, 1), Catch::Contains("3.bin: token 90 at place 5"));
  const auto writer = TokenFileWriter::create(directory.file("4.tokens"), TokenFormat::kTokens, 100,
                                              std::string(32, 'f'));
  writer->finish();
  CHECK_THROWS_WITH(open_token_files({first, directory.file("4.tokens")}),
                    Catch::Contains("1.tokens") && Catch::Contains("4.tokens"));
  CHECK_THROWS_AS(open_token_files({}), base::InputError);
}

TEST_CASE("a writer checks what it is given and leaves nothing unfinished") {
  const TemporaryDirectory directory;
  const auto format = GENERATE(TokenFormat::kTokens, TokenFormat::kMegatron);
  {
    const auto writer = TokenFileWriter::create(directory.file("a.bin"), format, 10, "");
    writer->add_document({1, 2}, 2);
    CHECK_THROWS_AS(writer->add_document({10}, 1), base::InputError);
    CHECK_THROWS_AS(writer->add_document({-1}, 1), base::InputError);
  }
  CHECK(std::filesystem::is_empty(directory.path()));
  CHECK_THROWS_AS(TokenFileWriter::create(directory.file("no/a"), format, 10, ""),
                  base::InputError);
  CHECK_THROWS_AS(TokenFileWriter::create(directory.file("a"), format, 0, ""), base::InputError);
  CHECK_THROWS_AS(TokenFile::open(directory.file("absent")), base::InputError);
}

}  // namespace
}  // namespace longspan::data
