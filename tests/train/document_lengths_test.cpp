#include "train/document_lengths.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <sstream>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/random.h"
#include "longspan/train/inspect.h"
#include "tests/data/memory_file.h"
#include "tests/support/temporary_directory.h"

namespace longspan::train {
namespace {

using Catch::Matchers::Contains;
using data::MemoryFile;
using longspan::test::TemporaryDirectory;
using Lengths = std::vector<std::int64_t>;

/// Lengths over many orders of magnitude, some beyond what is counted in a table.
Lengths many_lengths(int count) {
  const base::RandomStream random(5, base::Purpose::kTest, 0, 0);
  Lengths lengths;
  for (int i = 0; i < count; ++i) {
    const double exponent = 22 * random.uniform(static_cast<std::uint64_t>(i));
    lengths.push_back(static_cast<std::int64_t>(std::pow(2.0, exponent)));
  }
  return lengths;
}

std::int64_t percentile(const DocumentLengths& lengths, const std::string& name) {
  for (std::size_t i = 0; i < DocumentLengths::kPercents.size(); ++i) {
    if (percentile_name(DocumentLengths::kPercents[i]) == name) return lengths.percentiles[i];
  }
  throw base::InternalError("no such percentile");
}

TEST_CASE("Percentiles are those of the sorted lengths") {
  for (const int count : {1, 2, 3, 99, 100, 101, 1000, 5000}) {
    const Lengths all = many_lengths(count);
    Lengths sorted = all;
    std::sort(sorted.begin(), sorted.end());
    const auto lengths = DocumentLengths::of(MemoryFile(all));
    INFO(count << " documents");
    CHECK(lengths.documents == count);
    CHECK(lengths.longest() == sorted.back());
    for (std::size_t i = 0; i < DocumentLengths::kPercents.size(); ++i) {
      // The first document with so many at or below it, in thousandths to be exact.
      const auto thousandths = static_cast<std::int64_t>(10 * DocumentLengths::kPercents[i] + 0.5);
      const std::int64_t needed = (thousandths * count + 999) / 1000;
      CHECK(lengths.percentiles[i] == sorted[static_cast<std::size_t>(needed - 1)]);
    }
  }
}

TEST_CASE("Every document is in the one bin that its length is in") {
  const Lengths all = many_lengths(3000);
  const auto lengths = DocumentLengths::of(MemoryFile(all));
  std::int64_t documents = 0;
  for (std::size_t i = 0; i < lengths.bins.size(); ++i) {
    const LengthBin& bin = lengths.bins[i];
    if (i > 0) CHECK(bin.from == lengths.bins[i - 1].end);
    CHECK(bin.end == 2 * bin.from);
    std::int64_t count = 0;
    std::int64_t tokens = 0;
    for (const std::int64_t length : all) {
      if (length < bin.from || length >= bin.end) continue;
      ++count;
      tokens += length;
    }
    CHECK(bin.documents == count);
    CHECK(bin.tokens == tokens);
    documents += count;
  }
  CHECK(documents == 3000);
}

TEST_CASE("Documents above 8K, 32K, 128K are counted as far as there are any") {
  const auto lengths = DocumentLengths::of(MemoryFile({8192, 8193, 32768, 32769, 131072}));
  REQUIRE(lengths.above.size() == 2);
  CHECK(lengths.above[0].from == 8192);
  CHECK(lengths.above[0].documents == 4);
  CHECK(lengths.above[0].tokens == 8193 + 32768 + 32769 + 131072);
  CHECK(lengths.above[1].from == 32768);
  CHECK(lengths.above[1].documents == 2);
  CHECK(DocumentLengths::of(MemoryFile({5})).above.at(0).documents == 0);
}

TEST_CASE("Corpora that are empty, or have empty documents") {
  const auto none = DocumentLengths::of(MemoryFile({}));
  CHECK(none.longest() == 0);
  CHECK(none.mean() == 0);
  CHECK(lengths_text(none, 80).empty());
  CHECK_THAT(lengths_picture(none, "x"), Contains("No tokens."));
  const auto some = DocumentLengths::of(MemoryFile({0, 0, 0, 100}));
  REQUIRE(some.bins.size() == 2);
  CHECK(some.bins[0].documents == 3);
  CHECK(some.bins[1].from == 64);
  CHECK(percentile(some, "p75") == 0);
  CHECK(percentile(some, "p90") == 100);
  const auto empty = DocumentLengths::of(MemoryFile({0}));
  CHECK_THAT(lengths_text(empty, 80), Contains("100.00%"));
  CHECK_THAT(lengths_picture(empty, "x"), Contains("No tokens."));
}

int columns_of(const std::string& line) {
  return static_cast<int>(std::count_if(line.begin(), line.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
  }));
}

TEST_CASE("The chart takes the columns that there are, and no more") {
  const auto lengths = DocumentLengths::of(MemoryFile(many_lengths(500)));
  for (const int columns : {45, 80, 120, 200}) {
    std::istringstream text(lengths_text(lengths, columns));
    std::string line;
    bool in_chart = false;
    int widest = 0;
    while (std::getline(text, line)) {
      in_chart = in_chart || line.starts_with("tokens");
      if (in_chart) widest = std::max(widest, columns_of(line));
    }
    INFO(columns << " columns");
    CHECK(widest <= columns);
    CHECK(widest >= columns - 2);
  }
}

TEST_CASE("Powers of 1024 are written short") {
  CHECK(power_text(0) == "0");
  CHECK(power_text(1000) == "1000");
  CHECK(power_text(8192) == "8K");
  CHECK(power_text(std::int64_t{1} << 20U) == "1M");
  CHECK(power_text((std::int64_t{1} << 20U) + 1024) == "1025K");
}

/// Tokens of two bytes whose documents end with id 1.
std::string write_flat(const TemporaryDirectory& directory, const Lengths& lengths) {
  const std::string path = directory.file("raw.bin");
  std::ofstream out(path, std::ios::binary);
  for (const std::int64_t length : lengths) {
    for (std::int64_t i = 1; i <= length; ++i) {
      const std::uint16_t id = i == length ? 1 : 7;
      out.write(reinterpret_cast<const char*>(&id), sizeof id);
    }
  }
  return path;
}

TEST_CASE("inspect tells lengths of files without a header, writes and draws them") {
  const TemporaryDirectory directory;
  const std::string path = write_flat(directory, {3, 5, 9000});
  InspectOptions options;
  options.flat = {"uint16", 1};
  options.picture = directory.file("lengths.svg");
  options.lengths_out = directory.file("lengths.txt");
  CHECK_THAT(inspect(path, options), Contains("longest_document") && Contains("9000") &&
                                         Contains("8K to 16K") && Contains("33.33%"));
  const base::MappedFile lengths(options.lengths_out);
  CHECK(lengths.text() == "3\n5\n9000\n");
  const base::MappedFile picture(options.picture);
  CHECK(std::string(picture.text()).starts_with("<svg "));
  CHECK(std::string(picture.text()).ends_with("</svg>\n"));
  options.json = true;
  CHECK_THAT(inspect(path, options),
             Contains(R"("p50":5,)") && Contains(R"("max":9000)") &&
                 Contains(R"({"from":8192,"end":16384,"documents":1,"tokens":9000})"));
}

TEST_CASE("inspect refuses options that what it is given has no use for") {
  const TemporaryDirectory directory;
  const std::string path = write_flat(directory, {3});
  CHECK_THROWS_WITH(inspect(path, {}), Contains("--raw-type"));
  InspectOptions options;
  options.picture = directory.file("lengths.svg");
  CHECK_THROWS_WITH(inspect(directory.path().string(), options), Contains("--picture"));
  options.picture = directory.file("nowhere/lengths.svg");
  options.flat.type = "uint16";
  CHECK_THROWS_AS(inspect(path, options), base::InputError);
}

}  // namespace
}  // namespace longspan::train
