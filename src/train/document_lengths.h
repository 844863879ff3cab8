#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace longspan::data {
class TokenFile;
}

namespace longspan::train {

/// Documents of [from, end) tokens.
struct LengthBin {
  std::int64_t from = 0;
  std::int64_t end = 1;
  std::int64_t documents = 0;
  std::int64_t tokens = 0;  ///< of all of them
};

/// How long the documents of a corpus are. The figures are exact, whatever their number.
struct DocumentLengths {
  static constexpr std::array kPercents = {1.0,  5.0,  10.0, 25.0, 50.0, 75.0,
                                           90.0, 95.0, 99.0, 99.9, 100.0};

  std::int64_t documents = 0;
  std::int64_t tokens = 0;
  /// Of each percent the shortest length that so many of the documents do not exceed; of 100 the
  /// longest document. All 0 where there is none.
  std::array<std::int64_t, kPercents.size()> percentiles{};
  /// Powers of two, from that of the shortest document to that of the longest, those between
  /// without documents, too; before them one of documents without tokens, if there are any.
  std::vector<LengthBin> bins;
  /// Documents above 8192, 32768, 131072, ... tokens, as far as there are any, at least the first;
  /// `end` is not used.
  std::vector<LengthBin> above;

  double mean() const {
    return documents == 0 ? 0 : static_cast<double>(tokens) / static_cast<double>(documents);
  }
  std::int64_t longest() const { return percentiles.back(); }

  static DocumentLengths of(const data::TokenFile& file);
};

/// "p99.9"; of 100 "max".
std::string percentile_name(double percent);

/// "4K": multiples of 1024 and its powers so, other numbers in digits.
std::string power_text(std::int64_t tokens);

/// A table and a bar chart of documents and of tokens by length, for a terminal of so many columns.
std::string lengths_text(const DocumentLengths& lengths, int columns);

/// The same chart as an SVG picture.
std::string lengths_picture(const DocumentLengths& lengths, const std::string& title);

/// Writes the length of each document, one a line, in the file's order. Throws InputError.
void write_lengths(const data::TokenFile& file, const std::string& path);

}  // namespace longspan::train
