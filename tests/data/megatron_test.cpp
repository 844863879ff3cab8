#include <catch2/catch.hpp>
#include <functional>

#include "longspan/base/error.h"
#include "longspan/data/token_file.h"
#include "longspan/data/token_file_writer.h"
#include "tests/support/temporary_directory.h"

namespace longspan::data {
namespace {

using longspan::test::TemporaryDirectory;

/// Little-endian bytes, as hand-made as can be.
class Bytes {
 public:
  Bytes& text(std::string_view text) {
    bytes_ += text;
    return *this;
  }
  Bytes& number(std::int64_t value, int width) {
    for (int byte = 0; byte < width; ++byte) {
      bytes_.push_back(static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * byte)));
    }
    return *this;
  }
  Bytes& numbers(const std::vector<std::int64_t>& values, int width) {
    for (const std::int64_t value : values) number(value, width);
    return *this;
  }
  const std::string& done() const { return bytes_; }

 private:
  std::string bytes_;
};

struct Index {
  std::string magic = std::string("MMIDIDX\0\0", 9);
  std::int64_t version = 1;
  int code = 8;
  std::int64_t sequences = 3;
  std::int64_t marks = 3;
  std::vector<std::int64_t> lengths = {3, 0, 2};
  std::vector<std::int64_t> offsets = {0, 6, 6};
  std::vector<std::int64_t> documents = {0, 2, 3};

  std::string bytes() const {
    return Bytes()
        .text(magic)
        .number(version, 8)
        .number(code, 1)
        .number(sequences, 8)
        .number(marks, 8)
        .numbers(lengths, 4)
        .numbers(offsets, 8)
        .numbers(documents, 8)
        .done();
  }
};

const std::vector<std::int64_t> kTokens = {7, 40000, 9, 1, 2};

std::string write_files(const TemporaryDirectory& directory, const std::string& index,
                        int token_bytes = 2) {
  directory.write("m.bin", Bytes().numbers(kTokens, token_bytes).done());
  return directory.write("m.idx", index);
}

TEST_CASE("Megatron files are written byte for byte") {
  const TemporaryDirectory directory;
  const std::int64_t vocab_size = GENERATE(65499, 65500);
  const int width = vocab_size < 65500 ? 2 : 4;
  const auto writer =
      TokenFileWriter::create(directory.file("m"), TokenFormat::kMegatron, vocab_size, "");
  writer->add_document({7, 40000, 9}, 5);
  writer->add_document({}, 0);
  writer->add_document({1, 2}, 2);
  writer->finish();
  Index index;
  index.code = width == 2 ? 8 : 4;
  index.marks = 4;
  index.offsets = {0, 3 * width, 3 * width};
  index.documents = {0, 1, 2, 3};
  CHECK((base::read_text(directory.file("m.idx")) == index.bytes()));
  const std::string tokens = Bytes().numbers(kTokens, width).done();
  CHECK((base::read_text(directory.file("m.bin")) == tokens));
}

TEST_CASE("Megatron files are read: documents of several sequences, modes, all widths") {
  const TemporaryDirectory directory;
  for (const auto& [code, width] : {std::pair(8, 2), {4, 4}, {5, 8}}) {
    Index index;
    index.code = code;
    index.offsets = {0, 3 * width, 3 * width};
    for (const std::string modes : {"", "abc"}) {
      write_files(directory, index.bytes() + modes, width);
      for (const std::string name : {"m.bin", "m.idx"}) {
        const auto file = TokenFile::open(directory.file(name));
        CHECK(file->documents() == 2);
        CHECK(file->tokens() == 5);
        CHECK(file->document_begin(1) == 3);
        std::vector<TokenId> tokens(5);
        file->read(0, 5, tokens.data());
        CHECK(tokens == std::vector<TokenId>{7, 40000, 9, 1, 2});
      }
    }
  }
  Index narrow;
  narrow.offsets = {0, 3, 3};
  directory.write("m.bin", Bytes().numbers({200, 1, 2, 3, 4}, 1).done());
  for (const int code : {1, 2}) {
    narrow.code = code;
    directory.write("m.idx", narrow.bytes());
    TokenId token = 0;
    const auto file = TokenFile::open(directory.file("m.idx"));
    file->read(0, 1, &token);
    CHECK(token == (code == 1 ? 200 : -56));
    CHECK_THROWS_AS(file->check_range(code == 1 ? 200 : 259, 0, 1), base::InputError);
  }
}

TEST_CASE("a token beyond 31 bits is out of every range") {
  const TemporaryDirectory directory;
  Index index;
  index.code = 5;
  index.offsets = {0, 24, 24};
  directory.write("m.bin", Bytes().numbers({7, (std::int64_t{1} << 32) + 5, 9, 1, 2}, 8).done());
  const auto file = TokenFile::open(directory.write("m.idx", index.bytes()));
  CHECK_THROWS_WITH(file->check_range(100, 0, 1), Catch::Contains("place 1"));
}

TEST_CASE("hostile Megatron indexes are refused") {
  const TemporaryDirectory directory;
  constexpr std::int64_t kHuge = std::int64_t{1} << 61;
  const std::vector<std::pair<const char*, std::function<void(Index&)>>> faults = {
      {"MMIDIDX", [](Index& index) { index.magic[3] = 'x'; }},
      {"version is 2", [](Index& index) { index.version = 2; }},
      {"type code is 7", [](Index& index) { index.code = 7; }},
      {"type code is 0", [](Index& index) { index.code = 0; }},
      {"m.bin holds 2",
       [](Index& index) {
         index.code = 4, index.offsets = {0, 12, 12};
       }},
      {"do not fit", [](Index& index) { index.sequences = kHuge; }},
      {"do not fit", [](Index& index) { index.sequences = -1; }},
      {"do not fit", [](Index& index) { index.marks = kHuge; }},
      {"expected", [](Index& index) { index.sequences = 2; }},
      {"expected", [](Index& index) { index.marks = 4; }},
      {"the length -1", [](Index& index) { index.lengths[1] = -1; }},
      {"ends at token", [](Index& index) { index.lengths[2] = 3; }},
      {"describes 8 bytes", [](Index& index) { index.lengths[2] = 1; }},
      {"begins at byte 4", [](Index& index) { index.offsets[2] = 4; }},
      {"begins at byte -6", [](Index& index) { index.offsets[1] = -6; }},
      {"begins at byte 2305", [](Index& index) { index.offsets[2] = kHuge; }},
      {"mark 0 is sequence 1", [](Index& index) { index.documents[0] = 1; }},
      {"mark 1 is sequence -1", [](Index& index) { index.documents[1] = -1; }},
      {"mark 1 is sequence 9", [](Index& index) { index.documents[1] = 9; }},
      {"mark 2 is sequence 1", [](Index& index) { index.documents[2] = 1; }},
      {"end at sequence 2", [](Index& index) { index.documents[2] = 2; }},
      {"list of documents", [](Index& index) { index.documents.clear(), index.marks = 0; }},
  };
  for (const auto& [message, damage] : faults) {
    CAPTURE(message);
    Index index;
    damage(index);
    const std::string path = write_files(directory, index.bytes());
    CHECK_THROWS_AS(TokenFile::open(path), base::InputError);
    CHECK_THROWS_WITH(TokenFile::open(path), Catch::Contains(message));
  }
}

TEST_CASE("Megatron files that are cut off or missing are refused") {
  const TemporaryDirectory directory;
  const std::string index = Index().bytes();
  for (std::size_t size = 0; size < index.size(); ++size) {
    CAPTURE(size);
    const std::string path = write_files(directory, index.substr(0, size));
    CHECK_THROWS_AS(TokenFile::open(path), base::InputError);
  }
  write_files(directory, index);
  directory.write("m.bin", Bytes().numbers({7, 40000, 9, 1}, 2).done());
  CHECK_THROWS_AS(TokenFile::open(directory.file("m.bin")), base::InputError);
  directory.write("m.bin", std::string(11, 'x'));
  CHECK_THROWS_AS(TokenFile::open(directory.file("m.bin")), base::InputError);
  std::filesystem::remove(directory.file("m.bin"));
  CHECK_THROWS_WITH(TokenFile::open(directory.file("m.idx")), Catch::Contains("m.bin"));
  write_files(directory, index);
  std::filesystem::remove(directory.file("m.idx"));
  CHECK_THROWS_WITH(TokenFile::open(directory.file("m.bin")), Catch::Contains("m.idx"));
}

}  // namespace
}  // namespace longspan::data
