#include "train/windows.h"

#include <catch2/catch.hpp>
#include <string>

#include "longspan/data/token_file_writer.h"
#include "tests/support/temporary_directory.h"

namespace longspan::train {
namespace {

/// begin, end, and first token that counts.
using Cut = std::vector<std::vector<std::int64_t>>;

struct File {
  explicit File(const std::vector<int>& lengths) {
    const auto writer = data::TokenFileWriter::create(
        directory.file("x.tokens"), data::TokenFormat::kTokens, 10, std::string());
    for (const int length : lengths) {
      writer->add_document(std::vector<data::TokenId>(static_cast<std::size_t>(length), 1), 2);
    }
    writer->finish();
    tokens = data::TokenFile::open(directory.file("x.tokens"));
  }

  Cut cut(const WindowOptions& options) const {
    Cut result;
    for (const Window& window : cut_windows(*tokens, options)) {
      result.push_back({window.span.begin, window.span.end, window.counted});
    }
    return result;
  }

  test::TemporaryDirectory directory;
  std::unique_ptr<data::TokenFile> tokens;
};

TEST_CASE("documents are cut into windows that follow each other") {
  const File file({5, 1, 0, 8});
  CHECK(file.cut({.length = 4, .stride = 4}) ==
        Cut{{0, 4, 0}, {4, 5, 4}, {5, 6, 5}, {6, 10, 6}, {10, 14, 10}});
  CHECK(file.cut({.length = 100, .stride = 100}) == Cut{{0, 5, 0}, {5, 6, 5}, {6, 14, 6}});
}

TEST_CASE("windows that overlap count each token once, in the first that has it") {
  const File file({9, 3});
  CHECK(file.cut({.length = 4, .stride = 2}) ==
        Cut{{0, 4, 0}, {2, 6, 4}, {4, 8, 6}, {6, 9, 8}, {9, 12, 9}});
  CHECK(file.cut({.length = 4, .stride = 3}) == Cut{{0, 4, 0}, {3, 7, 4}, {6, 9, 7}, {9, 12, 9}});
  std::int64_t counted = 0;
  for (const auto& window : file.cut({.length = 5, .stride = 1})) counted += window[1] - window[2];
  CHECK(counted == 12);
}

TEST_CASE("the first tokens alone") {
  const File file({5, 8});
  CHECK(file.cut({.length = 4, .stride = 4, .max_tokens = 3}) == Cut{{0, 3, 0}});
  CHECK(file.cut({.length = 4, .stride = 4, .max_tokens = 7}) ==
        Cut{{0, 4, 0}, {4, 5, 4}, {5, 7, 5}});
  CHECK(file.cut({.length = 4, .stride = 4, .max_tokens = 1000}).size() == 4);
}

TEST_CASE("rows take windows in order, as many as they have room for") {
  const File file({5, 1, 0, 8});
  const auto windows = cut_windows(*file.tokens, {.length = 4, .stride = 4});
  std::vector<std::size_t> sizes;
  for (const auto& row : pack_windows(windows, 6)) sizes.push_back(row.size());
  CHECK(sizes == std::vector<std::size_t>{3, 1, 1});
  CHECK(pack_windows({}, 6).empty());
}

}  // namespace
}  // namespace longspan::train
